//! Real numbers in buffers, whatever their item type.

use bytemuck::Pod;
use millpond_shm::{Buffer, BufferMut, DType};

use crate::error::{Error, Result};

/// Item types whose every value is a real number that `f64` holds exactly.
pub const REAL: [DType; 8] =
    [DType::U8, DType::I8, DType::U16, DType::I16, DType::U32, DType::I32, DType::F32, DType::F64];

/// Changing the samples of a buffer in place.
pub trait MapSamples {
    /// Replaces each sample by `change` of it. Integers are rounded and stay within their type's range.
    ///
    /// # Errors
    /// If the items are none of [`REAL`].
    fn map_samples(&mut self, change: impl Fn(f64) -> f64) -> Result<()>;
}

/// The names of [`REAL`], for parameters.
pub(crate) const REAL_NAMES: &[&str] = &["u8", "i8", "u16", "i16", "u32", "i32", "f32", "f64"];

/// Writing numbers as the samples of a buffer.
pub trait WriteSamples {
    /// Writes as many samples as the buffer has. Integers are rounded and stay within their type's range.
    ///
    /// # Errors
    /// If the items are none of [`REAL`], or `samples` are not as many.
    fn write_samples(&mut self, samples: &[f64]) -> Result<()>;
}

/// Reading the samples of a buffer as `f64`.
pub trait ReadSamples {
    /// Replaces the contents of `samples` by all samples of the buffer.
    ///
    /// # Errors
    /// If the items are none of [`REAL`].
    fn read_samples(&self, samples: &mut Vec<f64>) -> Result<()>;
}

/// Conversion from and to `f64`, exact for every value of the type.
pub(crate) trait Sample: Pod {
    /// Exact.
    fn to_f64(self) -> f64;
    /// Rounded and within range.
    fn from_f64(value: f64) -> Self;
}

macro_rules! samples {
    ($($type:ty: $round:expr;)*) => {$(
        impl Sample for $type {
            fn to_f64(self) -> f64 {
                self.into()
            }

            fn from_f64(value: f64) -> Self {
                // `as` keeps integers within range.
                $round(value) as Self
            }
        }
    )*};
}

samples! {
    u8: f64::round;
    i8: f64::round;
    u16: f64::round;
    i16: f64::round;
    u32: f64::round;
    i32: f64::round;
    f32: std::convert::identity;
    f64: std::convert::identity;
}

/// Runs `$body` with `$type` standing for the item type of `$dtype`.
macro_rules! with_item_type {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            millpond_shm::DType::U8 => {
                type $type = u8;
                $body
            }
            millpond_shm::DType::I8 => {
                type $type = i8;
                $body
            }
            millpond_shm::DType::U16 => {
                type $type = u16;
                $body
            }
            millpond_shm::DType::I16 => {
                type $type = i16;
                $body
            }
            millpond_shm::DType::U32 => {
                type $type = u32;
                $body
            }
            millpond_shm::DType::I32 => {
                type $type = i32;
                $body
            }
            millpond_shm::DType::F32 => {
                type $type = f32;
                $body
            }
            millpond_shm::DType::F64 => {
                type $type = f64;
                $body
            }
            other => Err($crate::samples::not_real(other)),
        }
    };
}

/// Changes each number by the sample at its place in `bytes`, which are items of `dtype`.
///
/// # Errors
/// If the items are none of [`REAL`], or not as many as the numbers.
pub(crate) fn fold_samples(
    dtype: DType,
    bytes: &[u8],
    numbers: &mut [f64],
    change: impl Fn(f64, f64) -> f64,
) -> Result<()> {
    with_item_type!(dtype, T => {
        let items: &[T] = bytemuck::try_cast_slice(bytes)
            .map_err(|error| Error::Refused(format!("expected items of {dtype}, found {error}")))?;
        if items.len() != numbers.len() {
            return Err(Error::Refused(format!("expected {} samples, found {}", numbers.len(), items.len())));
        }
        numbers.iter_mut().zip(items).for_each(|(number, item)| *number = change(*number, item.to_f64()));
        Ok(())
    })
}

impl MapSamples for BufferMut {
    fn map_samples(&mut self, change: impl Fn(f64) -> f64) -> Result<()> {
        fn map<T: Sample>(items: &mut [T], change: impl Fn(f64) -> f64) {
            items.iter_mut().for_each(|item| *item = T::from_f64(change(item.to_f64())));
        }
        with_item_type!(self.dtype(), T => {
            map::<T>(self.as_mut_slice()?, change);
            Ok(())
        })
    }
}

impl WriteSamples for BufferMut {
    fn write_samples(&mut self, samples: &[f64]) -> Result<()> {
        let count = self.len() / self.dtype().size_bytes();
        if count != samples.len() {
            return Err(Error::Refused(format!("expected {count} samples, found {}", samples.len())));
        }
        with_item_type!(self.dtype(), T => {
            let items = self.as_mut_slice::<T>()?;
            items.iter_mut().zip(samples).for_each(|(item, sample)| *item = T::from_f64(*sample));
            Ok(())
        })
    }
}

impl ReadSamples for BufferMut {
    fn read_samples(&self, samples: &mut Vec<f64>) -> Result<()> {
        samples.clear();
        with_item_type!(self.dtype(), T => {
            samples.extend(self.as_slice::<T>()?.iter().map(|item| item.to_f64()));
            Ok(())
        })
    }
}

impl ReadSamples for Buffer {
    fn read_samples(&self, samples: &mut Vec<f64>) -> Result<()> {
        samples.clear();
        with_item_type!(self.dtype(), T => {
            samples.extend(self.as_slice::<T>()?.iter().map(|item| item.to_f64()));
            Ok(())
        })
    }
}

pub(crate) fn not_real(found: DType) -> Error {
    Error::Refused(format!("expected samples that are real numbers, found {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_and_saturate() {
        assert_eq!(i16::from_f64(1e9), i16::MAX);
        assert_eq!(i16::from_f64(-1e9), i16::MIN);
        assert_eq!(i16::from_f64(-2.5), -3);
        assert_eq!(u8::from_f64(-1.0), 0);
        assert_eq!(u8::from_f64(f64::NAN), 0);
        assert_eq!(i32::from_f64(i32::MAX.to_f64()), i32::MAX);
        assert_eq!(i32::from_f64(i32::MIN.to_f64()), i32::MIN);
    }
}
