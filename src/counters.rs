//! How structures of counts are written down: each count once, with what it means.

/// Makes a structure of `u64`s from its own description and those of its fields.
macro_rules! counters {
    ($(#[doc = $about:literal])+ $structure:ident { $($(#[doc = $doc:literal])+ $name:ident,)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $structure {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl $structure {
            /// Every counter with its name, in a fixed order.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name)),+].into_iter()
            }
        }
    };
}

pub(crate) use counters;
