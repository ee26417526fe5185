//! The Chrome DevTools Protocol: commands and events as JSON, ended by a NUL byte.

use std::collections::VecDeque;
use std::process::Command;

use serde_json::{Value, json};

use crate::process::Dialogue;
use crate::wait::PATIENCE;

/// More events than this are not kept: only the latest matter.
const EVENTS_KEPT: usize = 1000;

/// An element of the page; stale once the page has replaced it.
#[derive(Clone, Copy)]
pub struct Element(i64);

/// The connection with one page.
pub struct Session {
    process: Dialogue,
    id: Option<String>,
    next_command: u64,
    events: VecDeque<Value>,
    page_errors: Vec<String>,
}

impl Session {
    /// Starts the browser and attaches to its page.
    #[track_caller]
    pub fn start(command: Command) -> Self {
        let process = Dialogue::start("chromium", command, 0);
        let mut session = Self {
            process,
            id: None,
            next_command: 0,
            events: VecDeque::new(),
            page_errors: Vec::new(),
        };
        session
            .attach()
            .unwrap_or_else(|error| panic!("start chromium: {error}"));
        session
    }

    fn attach(&mut self) -> Result<(), String> {
        let target = self.command("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attached = self.command(
            "Target.attachToTarget",
            &json!({ "targetId": target["targetId"], "flatten": true }),
        )?;
        self.id = attached["sessionId"].as_str().map(String::from);
        for domain in ["Page", "Runtime", "DOM", "Accessibility", "Log"] {
            self.command(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(())
    }

    /// Sends a command and gives its result. Events that arrive meanwhile are kept.
    pub fn command(&mut self, method: &str, params: &Value) -> Result<Value, String> {
        self.next_command += 1;
        let id = self.next_command;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.id {
            message["sessionId"] = json!(session);
        }
        self.process.send(&message.to_string())?;
        loop {
            let mut message = self.receive()?;
            if message["id"] == id {
                return match message.get("error") {
                    Some(error) => Err(format!("{method}: {error}")),
                    None => Ok(message["result"].take()),
                };
            }
        }
    }

    /// Forgets the events so far, so that the next wait is for a new one.
    pub fn forget_events(&mut self) {
        self.events.clear();
    }

    /// Waits for an event that is not yet forgotten.
    pub fn wait_for_event(&mut self, method: &str) -> Result<(), String> {
        while !self.events.iter().any(|event| event["method"] == method) {
            self.receive()?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Value, String> {
        let text = self.process.receive(PATIENCE)?;
        let message: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if message.get("method").is_some() {
            self.page_errors.extend(page_error(&message));
            self.events.push_back(message.clone());
            if self.events.len() > EVENTS_KEPT {
                self.events.pop_front();
            }
        }
        Ok(message)
    }

    /// What the page has reported as an error since the start.
    pub fn page_errors(&mut self) -> Vec<String> {
        // Any answer brings the events before it along.
        let _ = self.evaluate("0");
        self.page_errors.clone()
    }

    pub fn evaluate(&mut self, expression: &str) -> Result<Value, String> {
        let params = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        self.command("Runtime.evaluate", &params)
            .and_then(script_result)
    }

    /// The one element with this role and accessible name.
    pub fn find(&mut self, role: &str, name: &str) -> Result<Element, String> {
        let node = self.accessible_node(role, name)?;
        node["backendDOMNodeId"]
            .as_i64()
            .map(Element)
            .ok_or_else(|| "no element".to_owned())
    }

    /// The description of that element, empty without one.
    pub fn description(&mut self, role: &str, name: &str) -> Result<String, String> {
        let node = self.accessible_node(role, name)?;
        Ok(node["description"]["value"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    fn accessible_node(&mut self, role: &str, name: &str) -> Result<Value, String> {
        let document = self.command("DOM.getDocument", &json!({ "depth": 0 }))?;
        let params = json!({ "nodeId": document["root"]["nodeId"], "role": role });
        let answer = self.command("Accessibility.queryAXTree", &params)?;
        let nodes = answer["nodes"].as_array().map_or(&[][..], Vec::as_slice);
        let name_of = |node: &Value| {
            node["name"]["value"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let of_role: Vec<&Value> = nodes
            .iter()
            .filter(|node| node["ignored"] != true)
            .collect();
        let mut matches = of_role.iter().filter(|node| name_of(node) == name);
        match (matches.next(), matches.next()) {
            (Some(node), None) => Ok((*node).clone()),
            (Some(_), Some(_)) => Err(format!("there are several of role {role} named {name:?}")),
            (None, _) => {
                let names: Vec<String> = of_role.iter().map(|node| name_of(node)).collect();
                Err(format!("of role {role} there are only {names:?}"))
            }
        }
    }

    pub fn is_enabled(&mut self, element: Element) -> Result<bool, String> {
        let function = "function() {
            return !this.matches(':disabled') && this.getAttribute('aria-disabled') !== 'true';
        }";
        self.call(element, function, &[])
            .map(|enabled| enabled == true)
    }

    /// Clicks the middle of the element with the mouse, if that is what the mouse would hit.
    pub fn click(&mut self, element: Element) -> Result<(), String> {
        let function = "function() {
            this.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
            const box = this.getClientRects()[0];
            if (!box || !box.width || !box.height) return 'it has no size';
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            const hit = document.elementFromPoint(x, y);
            const mine = hit && (this.contains(hit) || hit.contains(this) || hit.closest('label')?.control === this);
            return mine ? [x, y] : `it is covered by ${hit?.outerHTML.slice(0, 100)}`;
        }";
        let point = self.call(element, function, &[])?;
        if let Some(obstacle) = point.as_str() {
            return Err(obstacle.to_owned());
        }
        for (kind, buttons) in [("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)] {
            let params = json!({
                "type": kind, "x": point[0], "y": point[1], "buttons": buttons, "clickCount": 1,
                "button": if kind == "mouseMoved" { "none" } else { "left" },
            });
            self.command("Input.dispatchMouseEvent", &params)?;
        }
        Ok(())
    }

    /// Types `text` in place of what the field holds.
    pub fn type_over(&mut self, element: Element, text: &str) -> Result<(), String> {
        self.call(
            element,
            "function() { this.focus(); this.select?.(); }",
            &[],
        )?;
        if text.is_empty() {
            self.press("Delete")
        } else {
            self.command("Input.insertText", &json!({ "text": text }))
                .map(drop)
        }
    }

    /// Chooses an option of a `select` by its text.
    pub fn select(&mut self, element: Element, option: &str) -> Result<(), String> {
        let function = "function(text) {
            const option = [...this.options].find(o => o.text.trim() === text);
            if (!option || option.disabled) return [...this.options].map(o => o.text.trim());
            this.value = option.value;
            this.dispatchEvent(new Event('input', { bubbles: true }));
            this.dispatchEvent(new Event('change', { bubbles: true }));
            return true;
        }";
        match self.call(element, function, &[json!({ "value": option })])? {
            Value::Bool(true) => Ok(()),
            others => Err(format!("the options are {others}")),
        }
    }

    pub fn press(&mut self, key: &str) -> Result<(), String> {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            "Escape" => (27, ""),
            "Delete" => (46, ""),
            other => return Err(format!("{other:?} has no key code here")),
        };
        for kind in ["keyDown", "keyUp"] {
            let params = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
            });
            self.command("Input.dispatchKeyEvent", &params)?;
        }
        Ok(())
    }

    /// Calls a JavaScript function with the element as `this`.
    fn call(
        &mut self,
        element: Element,
        function: &str,
        arguments: &[Value],
    ) -> Result<Value, String> {
        let object = self.command("DOM.resolveNode", &json!({ "backendNodeId": element.0 }))?;
        let params = json!({
            "objectId": object["object"]["objectId"], "functionDeclaration": function,
            "arguments": arguments, "returnByValue": true,
        });
        self.command("Runtime.callFunctionOn", &params)
            .and_then(script_result)
    }
}

/// The value of a script, or what it threw.
fn script_result(mut answer: Value) -> Result<Value, String> {
    match answer.get("exceptionDetails") {
        Some(details) => Err(details["exception"]["description"].to_string()),
        None => Ok(answer["result"]["value"].take()),
    }
}

/// The text of an event that reports an error of the page.
fn page_error(event: &Value) -> Option<String> {
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => {
            Some(event["params"]["exceptionDetails"]["exception"]["description"].to_string())
        }
        "Log.entryAdded" if event["params"]["entry"]["level"] == "error" => {
            let entry = &event["params"]["entry"];
            Some(format!("{} {}", entry["text"], entry["url"]))
        }
        _ => None,
    }
}
