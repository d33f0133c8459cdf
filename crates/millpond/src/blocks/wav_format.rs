//! How the samples of WAV files travel: each format as an item type that loses no bit.

use hound::{SampleFormat, WavSpec};
use millpond_shm::DType;

use crate::error::{Error, Result};

/// The sample formats that WAV files have here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredAs {
    I8,
    I16,
    I24,
    I32,
    F32,
}

impl StoredAs {
    const ALL: [(StoredAs, &str, u16); 5] = [
        (StoredAs::I8, "i8", 8),
        (StoredAs::I16, "i16", 16),
        (StoredAs::I24, "i24", 24),
        (StoredAs::I32, "i32", 32),
        (StoredAs::F32, "f32", 32),
    ];

    /// How the file with this header stores its samples.
    pub(super) fn of(spec: WavSpec) -> Result<Self> {
        let fits = |stored: &StoredAs, bits: u16| {
            bits == spec.bits_per_sample
                && (*stored == StoredAs::F32) == (spec.sample_format == SampleFormat::Float)
        };
        let found = Self::ALL.into_iter().find(|(stored, _, bits)| fits(stored, *bits));
        found.map(|(stored, _, _)| stored).ok_or_else(|| {
            let kind = if spec.sample_format == SampleFormat::Int { "integers" } else { "floats" };
            let found = format!("{kind} of {} bits", spec.bits_per_sample);
            Error::Refused(format!(
                "expected integers of 8, 16, 24 or 32 bits, or floats of 32, found {found}"
            ))
        })
    }

    /// The format that a stream's description names.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known, _)| *known == name).map(|(stored, _, _)| stored)
    }

    /// The format for samples that say no more than their item type.
    pub(super) fn for_dtype(dtype: DType) -> Self {
        match dtype {
            DType::I8 => StoredAs::I8,
            DType::I16 => StoredAs::I16,
            DType::I32 => StoredAs::I32,
            _ => StoredAs::F32,
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.entry().1
    }

    /// Integers of up to 24 bits are exact as `f32` from -1 to 1; those of 32 bits are not.
    pub(super) fn dtype(self) -> DType {
        if self == StoredAs::I32 { DType::I32 } else { DType::F32 }
    }

    /// The integer that stands for 1.0; `None` for floats.
    pub(super) fn full_scale(self) -> Option<f64> {
        (self != StoredAs::F32).then(|| f64::from(1u32 << (self.entry().2 - 1)))
    }

    /// The header of a file that stores its samples so.
    pub(super) fn spec(self, channels: u16, sample_rate: u32) -> WavSpec {
        let sample_format = if self == StoredAs::F32 { SampleFormat::Float } else { SampleFormat::Int };
        WavSpec { channels, sample_rate, bits_per_sample: self.entry().2, sample_format }
    }

    fn entry(self) -> (StoredAs, &'static str, u16) {
        Self::ALL[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_survive_their_names_and_headers() {
        for (stored, name, _) in StoredAs::ALL {
            assert_eq!(StoredAs::from_name(name), Some(stored));
            assert_eq!(stored.name(), name);
            assert_eq!(StoredAs::of(stored.spec(2, 48_000)).unwrap(), stored);
        }
        let odd =
            WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 12, sample_format: SampleFormat::Int };
        assert!(StoredAs::of(odd).unwrap_err().to_string().ends_with("found integers of 12 bits"));
    }

    #[test]
    fn every_24_bit_integer_survives_f32() {
        let scale = StoredAs::I24.full_scale().unwrap();
        for value in (-(1 << 23)..1 << 23).step_by(97).chain([(1 << 23) - 1, 0, -1]) {
            let travelling = (f64::from(value) / scale) as f32;
            assert_eq!(f64::from(travelling) * scale, f64::from(value));
        }
    }
}
