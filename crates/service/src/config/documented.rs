//! What a settings struct tells of itself: its doc comments, field by field.

use std::marker::PhantomData;

/// A settings struct that knows its own documentation. Made by [`settings!`](crate::settings), not by hand.
pub trait Documented {
    /// The lines of the struct's doc comment.
    const ABOUT: &'static [&'static str];
    /// Its fields in order.
    const FIELDS: &'static [Field];
}

/// One field of a settings struct.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// As it stands in the file.
    pub name: &'static str,
    /// The lines of its doc comment.
    pub about: &'static [&'static str],
    /// The fields of its section; empty when it is a plain value.
    pub fields: &'static [Field],
}

/// Asks a type for its fields, whether it is documented or not: an inherent constant wins over a trait's.
#[doc(hidden)]
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

impl<T: Documented> Probe<T> {
    #[doc(hidden)]
    pub const FIELDS: &'static [Field] = T::FIELDS;
}

/// The answer for types that are no section.
#[doc(hidden)]
pub trait Leaf {
    #[doc(hidden)]
    const FIELDS: &'static [Field] = &[];
}

impl<T> Leaf for Probe<T> {}

/// Declares a settings struct: doc comments, fields with their defaults; a field whose type is itself declared so
/// becomes a section of the file. The caller's crate needs `serde`.
///
/// ```
/// millstream_service::settings! {
///     /// How the mill runs.
///     pub struct Mill {
///         /// Turns of the wheel a minute.
///         pub turns: u32 = 12,
///         /// Where operators look.
///         pub ops: millstream_service::ops::Config = Default::default(),
///     }
/// }
/// assert_eq!(Mill::default().turns, 12);
/// assert!(millstream_service::config::print(&Mill::default()).unwrap().contains("# Turns of the wheel a minute."));
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[$($on:tt)*])*
        $vis:vis struct $name:ident {
            $( $(#[$($about:tt)*])* $field_vis:vis $field:ident : $type:ty = $default:expr ),* $(,)?
        }
    ) => {
        $(#[$($on)*])*
        #[derive(Debug, Clone, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        $vis struct $name {
            $( $(#[$($about)*])* $field_vis $field: $type, )*
        }

        impl ::core::default::Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::config::Documented for $name {
            const ABOUT: &'static [&'static str] = &[ $( $crate::__doc_line!($($on)*), )* ];
            const FIELDS: &'static [$crate::config::Field] = {
                use $crate::config::Leaf as _;
                // Keeps the import in use where every field is a section.
                let _: &[$crate::config::Field] = $crate::config::Probe::<()>::FIELDS;
                &[ $( $crate::config::Field {
                    name: ::core::stringify!($field),
                    about: &[ $( $crate::__doc_line!($($about)*), )* ],
                    fields: $crate::config::Probe::<$type>::FIELDS,
                }, )* ]
            };
        }
    };
}

/// The text of a doc attribute; nothing for another attribute.
#[doc(hidden)]
#[macro_export]
macro_rules! __doc_line {
    (doc = $line:literal) => {
        $line
    };
    ($($other:tt)*) => {
        ""
    };
}
