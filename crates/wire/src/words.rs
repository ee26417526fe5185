//! Enums that are spelled on the wire as in the model.

/// Declares the wire's form of one of the model's enums, with conversions both ways by
/// exhaustive matches.
macro_rules! words {
    (
        $(#[$doc:meta])*
        $name:ident = $model:path { $($(#[$vdoc:meta])* $variant:ident = $word:tt,)+ }
    ) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize, utoipa::ToSchema,
        )]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// Every variant.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The one spelling of this variant.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl From<$model> for $name {
            fn from(model: $model) -> Self {
                match model { $(<$model>::$variant => Self::$variant,)+ }
            }
        }

        impl From<$name> for $model {
            fn from(wire: $name) -> Self {
                match wire { $($name::$variant => Self::$variant,)+ }
            }
        }

        #[cfg(test)]
        impl $crate::words::tests::SameWords for $name {
            fn pairs() -> Vec<(&'static str, &'static str)> {
                Self::ALL.iter().map(|word| (word.as_str(), <$model>::from(*word).as_str())).collect()
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
pub(crate) mod tests {
    /// An enum of the wire beside the model's.
    pub(crate) trait SameWords {
        /// The spelling here and the spelling there, for each variant.
        fn pairs() -> Vec<(&'static str, &'static str)>;
    }

    #[test]
    fn the_wire_spells_every_word_as_the_model_does() {
        let all = [
            crate::volume::VolumeState::pairs(),
            crate::volume::VolumeRole::pairs(),
            crate::volume::AttachedState::pairs(),
            crate::volume::Confirmation::pairs(),
            crate::upload::ImageFormat::pairs(),
            crate::item::ItemState::pairs(),
            crate::item::Consistency::pairs(),
            crate::item::Trigger::pairs(),
            crate::item::ItemKind::pairs(),
            crate::operation::OperationKind::pairs(),
            crate::operation::OperationState::pairs(),
            crate::operation::Phase::pairs(),
            crate::event::EventKind::pairs(),
            crate::instance::InstanceState::pairs(),
            crate::instance::Power::pairs(),
            crate::permission::Action::pairs(),
            crate::problem::ProblemCode::pairs(),
            crate::session::Role::pairs(),
            crate::admin::VerifyLevel::pairs(),
            crate::admin::CollectionState::pairs(),
        ];
        for (wire, model) in all.into_iter().flatten() {
            assert_eq!(wire, model);
        }
    }
}
