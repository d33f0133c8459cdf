//! What a buffer says about its contents: element type, shape.

use crate::error::{Error, Result};
use crate::layout::MAX_DIMENSIONS;
use serde::Serialize;
use std::any::TypeId;
use std::fmt;
use std::str::FromStr;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $bytes:literal;)*) => {
        /// Type of one element of a buffer.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
        #[serde(rename_all = "lowercase")]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum DType { $($(#[$doc])* $variant = $code,)* }

        impl DType {
            /// Every type.
            pub const ALL: &'static [DType] = &[$(DType::$variant,)*];

            /// Bytes of one element.
            #[must_use]
            pub const fn size_bytes(self) -> usize {
                match self { $(DType::$variant => $bytes,)* }
            }

            /// Its name, as in pipeline files: `f32`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(DType::$variant => $name,)* }
            }

            #[inline]
            pub(crate) const fn from_code(code: u8) -> Option<DType> {
                match code { $($code => Some(DType::$variant),)* _ => None }
            }
        }
    };
}

dtypes! {
    /// Bytes without a type.
    #[default]
    Bytes = 0, "bytes", 1;
    /// Unsigned 8-bit integers.
    U8 = 1, "u8", 1;
    /// Signed 8-bit integers.
    I8 = 2, "i8", 1;
    /// Unsigned 16-bit integers.
    U16 = 3, "u16", 2;
    /// Signed 16-bit integers.
    I16 = 4, "i16", 2;
    /// Unsigned 32-bit integers.
    U32 = 5, "u32", 4;
    /// Signed 32-bit integers.
    I32 = 6, "i32", 4;
    /// Unsigned 64-bit integers.
    U64 = 7, "u64", 8;
    /// Signed 64-bit integers.
    I64 = 8, "i64", 8;
    /// IEEE 754 single precision.
    F32 = 9, "f32", 4;
    /// IEEE 754 double precision.
    F64 = 10, "f64", 8;
    /// Complex numbers of two `f32`.
    C32 = 11, "c32", 8;
    /// Complex numbers of two `f64`.
    C64 = 12, "c64", 16;
    /// Records whose fields the stream's description names.
    Record = 13, "record", 1;
}

impl DType {
    /// Whether the elements can be seen as `T`s: a number type only if they are that (or parts of complex numbers), bytes and what is no
    /// number always, as far as the sizes fit.
    #[inline]
    pub(crate) fn admits<T: 'static>(self) -> bool {
        let seen = TypeId::of::<T>();
        let is = |type_of: TypeId, same: &[DType]| seen == type_of && !same.contains(&self);
        let differs = is(TypeId::of::<i8>(), &[DType::I8])
            || is(TypeId::of::<u16>(), &[DType::U16])
            || is(TypeId::of::<i16>(), &[DType::I16])
            || is(TypeId::of::<u32>(), &[DType::U32])
            || is(TypeId::of::<i32>(), &[DType::I32])
            || is(TypeId::of::<u64>(), &[DType::U64])
            || is(TypeId::of::<i64>(), &[DType::I64])
            || is(TypeId::of::<f32>(), &[DType::F32, DType::C32])
            || is(TypeId::of::<f64>(), &[DType::F64, DType::C64]);
        !differs || matches!(self, DType::Bytes | DType::Record)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = Error;

    fn from_str(name: &str) -> Result<DType> {
        DType::ALL.iter().copied().find(|d| d.name() == name).ok_or_else(|| Error::InvalidConfig {
            what: "dtype".to_owned(),
            expected: DType::ALL.iter().map(|d| d.name()).collect::<Vec<_>>().join(", "),
            found: format!("`{name}`"),
        })
    }
}

/// Dimensions of a buffer's contents, slowest first; none for plain bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    dimensions: [u32; MAX_DIMENSIONS],
    count: u8,
}

impl Shape {
    /// The shape with these dimensions; `None` if there are more than 6.
    #[must_use]
    pub fn new(dimensions: &[u32]) -> Option<Shape> {
        let mut shape =
            Shape { dimensions: [0; MAX_DIMENSIONS], count: u8::try_from(dimensions.len()).ok()? };
        shape.dimensions.get_mut(..dimensions.len())?.copy_from_slice(dimensions);
        Some(shape)
    }
}

impl std::ops::Deref for Shape {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        &self.dimensions[..self.count as usize]
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The packed description of a buffer's contents.
///
/// ```text
/// length in bytes:40 | dtype:8 | dimensions:4 | timestamp kind:3 | has range:1 | unused:8
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Description(pub(crate) u64);

pub(crate) const MAX_LENGTH: u64 = (1 << 40) - 1;
const RANGE_BIT: u64 = 1 << 8;

impl Description {
    #[inline]
    pub(crate) const fn bytes(length: u64) -> Description {
        Description(length << 24)
    }

    #[inline]
    pub(crate) const fn length(self) -> u64 {
        self.0 >> 24
    }

    #[inline]
    pub(crate) const fn with_length(self, length: u64) -> Description {
        Description(self.0 & 0xff_ffff | length << 24)
    }

    pub(crate) const fn dtype(self) -> Option<DType> {
        DType::from_code((self.0 >> 16) as u8)
    }

    pub(crate) const fn dimensions(self) -> usize {
        (self.0 >> 12) as usize & 0xf
    }

    pub(crate) const fn with_array(self, dtype: DType, dimensions: usize) -> Description {
        Description(self.0 & !0xff_f000 | (dtype as u64) << 16 | (dimensions as u64 & 0xf) << 12)
    }

    pub(crate) const fn stamp_kind(self) -> u8 {
        (self.0 >> 9) as u8 & 7
    }

    pub(crate) const fn with_stamp_kind(self, kind: u8) -> Description {
        Description(self.0 & !0xe00 | (kind as u64 & 7) << 9)
    }

    pub(crate) const fn has_range(self) -> bool {
        self.0 & RANGE_BIT != 0
    }

    pub(crate) const fn with_range(self, range: bool) -> Description {
        Description(if range { self.0 | RANGE_BIT } else { self.0 & !RANGE_BIT })
    }
}
