//! Forms: dialogs that are pages of their own, their fields, and what was typed into them.

use std::collections::BTreeMap;

use maud::{Markup, Render, html};
use stillpoint_model::name::{InvalidName, Name};
use stillpoint_model::refusal::{ProblemCode, Refusal};

use super::{Answer, DIALOG, Subject, alert, reason};
use crate::portal::icon::Icon;
use crate::portal::session::Viewer;

/// What a form holds: nothing yet, or what somebody typed and gets back after a refusal.
#[derive(Clone, Debug, Default)]
pub(in crate::portal) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// The fields of a form that was sent; of repeated ones the last.
    pub(in crate::portal) fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// With a value that the form starts with.
    #[must_use]
    pub(in crate::portal) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// What stands in a field, without the blanks around it.
    pub(in crate::portal) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value.trim())
    }

    /// What stands in a field, as it was sent.
    pub(in crate::portal) fn raw(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// What stands in a field; none when it is blank.
    pub(in crate::portal) fn optional(&self, name: &str) -> Option<&str> {
        Some(self.get(name)).filter(|value| !value.is_empty())
    }

    /// Whether a box was checked.
    pub(in crate::portal) fn is_checked(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The name in a field.
    pub(in crate::portal) fn name(&self, field: &str) -> Result<Name, Refusal> {
        self.get(field).parse().map_err(|e: InvalidName| {
            Refusal::new(ProblemCode::NameInvalid, e.to_string()).at(format!("/{field}"))
        })
    }

    /// The name in a field; none when it is blank.
    pub(in crate::portal) fn optional_name(&self, field: &str) -> Result<Option<Name>, Refusal> {
        self.optional(field).map(|_| self.name(field)).transpose()
    }

    /// Labels, one `key=value` a line.
    pub(in crate::portal) fn labels(&self) -> Result<BTreeMap<String, String>, Refusal> {
        let mut labels = BTreeMap::new();
        for line in self
            .get("labels")
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
        {
            let Some((key, value)) = line.split_once('=') else {
                let text = format!("Write labels as key=value, one a line; \"{line}\" has no =.");
                return Err(Refusal::new(ProblemCode::InvalidRequest, text).at("/labels"));
            };
            labels.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        Ok(labels)
    }
}

/// The button that sends a form.
pub(in crate::portal) struct Submit<'a> {
    pub(in crate::portal) label: &'a str,
    pub(in crate::portal) danger: bool,
    /// What leads away without sending.
    pub(in crate::portal) back: &'a str,
    /// Whether a name must be typed before.
    pub(in crate::portal) confirm: bool,
    /// What the guard rails say; a no disables the button and is asked again when it may change.
    pub(in crate::portal) answer: Option<&'a Answer>,
}

impl<'a> Submit<'a> {
    /// A button that does what a person wants.
    pub(in crate::portal) fn new(label: &'a str) -> Self {
        Self {
            label,
            danger: false,
            back: "Cancel",
            confirm: false,
            answer: None,
        }
    }

    /// One that takes something away.
    pub(in crate::portal) fn danger(label: &'a str) -> Self {
        Self {
            danger: true,
            ..Self::new(label)
        }
    }
}

/// A dialog: a form with its own address, opened over a page or as a page.
pub(in crate::portal) struct Sheet<'a> {
    pub(in crate::portal) viewer: &'a Viewer,
    pub(in crate::portal) title: &'a str,
    pub(in crate::portal) lead: Markup,
    /// Where the form is sent; the dialog's own address.
    pub(in crate::portal) action: String,
    /// Where Cancel goes.
    pub(in crate::portal) back: String,
    pub(in crate::portal) submit: Submit<'a>,
    pub(in crate::portal) error: Option<&'a Refusal>,
    /// The snapshot, backup or image it is about.
    pub(in crate::portal) item: Option<Subject>,
    /// Whether it carries a file.
    pub(in crate::portal) upload: bool,
}

impl Sheet<'_> {
    /// The dialog around these fields.
    pub(in crate::portal) fn render(&self, fields: &Markup) -> Markup {
        let select = format!("#{DIALOG}");
        let encoding = self.upload.then_some("multipart/form-data");
        html! {
            div #(DIALOG) .sheet {
                form method="post" action=(self.action) enctype=[encoding] hx-encoding=[encoding]
                    hx-post=(self.action) hx-target=(select) hx-select=(select) hx-swap="outerHTML"
                    hx-disabled-elt="find button[type=submit]"
                {
                    header {
                        div { h1 #dialog-title { (self.title) } p { (self.lead) } }
                        a.button.plain.icon-only.compact href=(self.back) data-close aria-label="Close" { (Icon::Close) }
                    }
                    (hidden("csrf_token", &self.viewer.csrf))
                    (hidden("idempotency_key", &self.viewer.form_key))
                    div.body {
                        @if let Some(error) = self.error {
                            (alert(error, self.viewer, self.item, &self.action))
                        }
                        (fields)
                    }
                    footer { (self.gate()) }
                }
            }
        }
    }

    /// Cancel and the button that sends; this part asks again when the answer may have changed,
    /// so that nothing typed is lost.
    fn gate(&self) -> Markup {
        let refusal = self.submit.answer.and_then(|answer| answer.as_ref().err());
        let class = if self.submit.danger {
            "danger"
        } else {
            "primary"
        };
        html! {
            div #gate .actions data-live hx-get=(self.action) hx-select="#gate > *" hx-target="this"
                hx-swap="innerHTML" hx-disabled-elt="unset" hx-encoding="unset"
                hx-trigger="sse:operation, sse:volume, sse:instance, portal:refresh"
            {
                @if let Some(refusal) = refusal {
                    p #gate-reason .reason { (reason(refusal, self.viewer.now, self.item)) }
                }
                a.button href=(self.back) data-close role="button" { (self.submit.back) }
                button.button.(class) type="submit" disabled[refusal.is_some()]
                    data-confirmable[self.submit.confirm && refusal.is_none()]
                    aria-describedby=[refusal.map(|_| "gate-reason")]
                { (self.submit.label) }
            }
        }
    }
}

/// A value that goes along unseen.
pub(in crate::portal) fn hidden(name: &str, value: &str) -> Markup {
    html! { input type="hidden" name=(name) value=(value); }
}

/// Whether a refusal is about this field.
pub(in crate::portal) fn field_error<'a>(
    error: Option<&'a Refusal>,
    field: &str,
) -> Option<&'a str> {
    let refusal = error?;
    let pointer = refusal.pointer.as_deref()?;
    (pointer.strip_prefix('/') == Some(field)).then_some(refusal.text.as_str())
}

/// A line of text with its label, a hint and what is wrong with it.
#[derive(Clone, Copy, Default)]
pub(in crate::portal) struct TextField<'a> {
    pub(in crate::portal) name: &'a str,
    pub(in crate::portal) label: &'a str,
    pub(in crate::portal) hint: Option<&'a str>,
    pub(in crate::portal) optional: bool,
    pub(in crate::portal) focus: bool,
    /// The text that must be typed.
    pub(in crate::portal) confirm: Option<&'a str>,
    pub(in crate::portal) error: Option<&'a str>,
    pub(in crate::portal) value: &'a str,
}

/// A line of text that a form asks for.
pub(in crate::portal) fn text_field<'a>(
    name: &'a str,
    label: &'a str,
    fields: &'a Fields,
    error: Option<&'a Refusal>,
) -> TextField<'a> {
    TextField {
        name,
        label,
        value: fields.raw(name),
        error: field_error(error, name),
        ..TextField::default()
    }
}

impl<'a> TextField<'a> {
    /// Says that it may stay empty.
    #[must_use]
    pub(in crate::portal) fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }

    /// Puts the cursor here first.
    #[must_use]
    pub(in crate::portal) fn focused(self) -> Self {
        Self {
            focus: true,
            ..self
        }
    }

    /// Adds a sentence below.
    #[must_use]
    pub(in crate::portal) fn hint(self, hint: &'a str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    /// Wants exactly this text.
    #[must_use]
    pub(in crate::portal) fn confirming(self, text: &'a str) -> Self {
        Self {
            confirm: Some(text),
            ..self
        }
    }
}

impl Render for TextField<'_> {
    fn render(&self) -> Markup {
        let id = format!("field-{}", self.name);
        let note = format!("{id}-note");
        let described = (self.error.is_some() || self.hint.is_some()).then_some(&note);
        html! {
            div.field {
                label for=(id) { (self.label) @if self.optional { " " span.optional { "(optional)" } } }
                input #(id) type="text" name=(self.name) value=(self.value) autocomplete="off" spellcheck="false"
                    autofocus[self.focus] data-confirm=[self.confirm]
                    aria-invalid=[self.error.map(|_| "true")] aria-describedby=[described];
                @if let Some(error) = self.error {
                    p #(note) .error { (Icon::Alert) (error) }
                } @else if let Some(hint) = self.hint {
                    p #(note) .hint { (hint) }
                }
            }
        }
    }
}

/// The field into which a name is typed before something is lost.
pub(in crate::portal) fn confirm_field(
    name: &str,
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let label = format!("Type {name} to confirm");
    text_field("confirm", &label, fields, error)
        .confirming(name)
        .focused()
        .render()
}

/// Description and labels, folded away until somebody wants them.
pub(in crate::portal) fn description_and_labels(
    fields: &Fields,
    error: Option<&Refusal>,
    open: bool,
) -> Markup {
    let wrong = ["description", "labels"]
        .iter()
        .any(|f| field_error(error, f).is_some());
    html! {
        details.advanced open[open || wrong] {
            summary { "Description and labels" }
            div.fields {
                (text_area("description", "Description", "What this is for.", fields, error))
                (text_area("labels", "Labels", "One a line, as key=value.", fields, error))
            }
        }
    }
}

fn text_area(
    name: &str,
    label: &str,
    hint: &str,
    fields: &Fields,
    error: Option<&Refusal>,
) -> Markup {
    let id = format!("field-{name}");
    let note = format!("{id}-note");
    let wrong = field_error(error, name);
    html! {
        div.field {
            label for=(id) { (label) " " span.optional { "(optional)" } }
            textarea #(id) name=(name) rows="3" aria-describedby=(note) aria-invalid=[wrong.map(|_| "true")] { (fields.raw(name)) }
            @match wrong {
                Some(text) => p #(note) .error { (Icon::Alert) (text) },
                None => p #(note) .hint { (hint) },
            }
        }
    }
}

/// Labels as the field shows them.
pub(in crate::portal) fn labels_text(labels: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    lines.join("\n")
}

/// One of several values, as a list to open.
pub(in crate::portal) fn select(
    name: &str,
    label: &str,
    options: &[(String, String)],
    fields: &Fields,
) -> Markup {
    let id = format!("field-{name}");
    let chosen = fields.get(name);
    html! {
        div.field {
            label for=(id) { (label) }
            select #(id) name=(name) {
                @for (value, text) in options {
                    option value=(value) selected[value.as_str() == chosen] { (text) }
                }
            }
        }
    }
}

/// A box to check; [`Fields::is_checked`] reads it.
pub(in crate::portal) fn checkbox(name: &str, label: &str, fields: &Fields) -> Markup {
    html! {
        label.check {
            input type="checkbox" name=(name) value="on" checked[fields.is_checked(name)];
            (label)
        }
    }
}

/// One of a few values, all in sight. The first is chosen when none was.
pub(in crate::portal) fn radios(
    name: &str,
    label: &str,
    options: &[(&str, &str)],
    fields: &Fields,
) -> Markup {
    let given = fields.get(name);
    let chosen = options
        .iter()
        .find(|(v, _)| *v == given)
        .or(options.first())
        .map(|(v, _)| *v);
    html! {
        fieldset.field {
            legend { (label) }
            div.row-choices {
                @for (value, text) in options {
                    label {
                        input type="radio" name=(name) value=(value) checked[chosen == Some(*value)];
                        (text)
                    }
                }
            }
        }
    }
}
