//! `convert`: changes the item type of samples.

use crate::prelude::*;
use crate::samples::REAL_NAMES;

/// Makes samples of one type of another: scaled, rounded and kept within the type's range. In place if the type stays the same.
pub(super) struct Convert {
    dtype: DType,
    samples: Vec<f64>,
    saturated: u64,
}

impl Block for Convert {
    fn spec() -> Spec {
        Spec::new("convert", "Changes the item type of samples; integers are rounded and saturate")
            .details(
                "Halves are rounded away from zero; NaN becomes 0 in integers. How many samples were out of the new type's \
                 range is told at the end. From floats between -1 and 1 to i16: scale = 32767.",
            )
            .example(
                r#"
connect = ["tone -> integers -> file"]
blocks.tone = { type = "signal", duration_s = 1.0 }
blocks.integers = { type = "convert", dtype = "i16", scale = 32767 }
blocks.file = { type = "file-sink", path = "tone.raw" }
"#,
            )
            .input(Port::new("in", "samples").dtypes(REAL))
            .output(Port::new("out", "the samples times `scale`").dtypes(REAL))
            .param(Param::one_of("dtype", "the new item type", REAL_NAMES).fixed())
            .param(Param::float("scale", "factor for every sample").default(1.0).range(-1e30, 1e30))
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self { dtype: params.get("dtype"), samples: Vec::new(), saturated: 0 })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let format = io.format("in").cloned().unwrap_or_default();
        io.set_format("out", StreamFormat { dtype: self.dtype, ..format })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let scale: f64 = io.param("scale");
        let next = io.peek("in")?;
        if next.dtype() == self.dtype && scale == 1.0 {
            let same = io.take("in")?;
            return io.send("out", same);
        }
        let shape = next.extents();
        let mut converted = io.new_buffer("out", self.dtype, &shape)?;
        let original = io.take("in")?;
        original.read_samples(&mut self.samples)?;
        self.samples.iter_mut().for_each(|sample| *sample *= scale);
        let (min, max) = range(self.dtype);
        self.saturated +=
            self.samples.iter().filter(|sample| **sample < min || **sample > max).count() as u64;
        converted.write_samples(&self.samples)?;
        converted.set_timestamp(original.timestamp());
        converted.set_time_range(original.time_range());
        io.send("out", converted)
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        if self.saturated > 0 {
            io.note(&format!("{} samples were out of the range of {}", self.saturated, self.dtype));
        }
        Ok(())
    }
}

/// The numbers that become one of the type's values by rounding.
fn range(dtype: DType) -> (f64, f64) {
    let (min, max): (f64, f64) = match dtype {
        DType::U8 => (0.0, u8::MAX.into()),
        DType::I8 => (i8::MIN.into(), i8::MAX.into()),
        DType::U16 => (0.0, u16::MAX.into()),
        DType::I16 => (i16::MIN.into(), i16::MAX.into()),
        DType::U32 => (0.0, u32::MAX.into()),
        DType::I32 => (i32::MIN.into(), i32::MAX.into()),
        _ => return (f64::NEG_INFINITY, f64::INFINITY),
    };
    (min - 0.5, max + 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    fn bench(dtype: &str, scale: f64) -> Bench {
        Bench::of::<Convert>(&[("dtype", dtype.into()), ("scale", scale.into())]).unwrap()
    }

    #[test]
    fn floats_become_integers_and_back() {
        let floats = [0.0f32, 1.0, -1.0, 0.5, -2.0, 7.0, f32::NAN];
        let integers: Vec<i16> = bench("i16", 32_767.0).run_through(1, 3, &floats).unwrap();
        assert_eq!(integers, [0, 32_767, -32_767, 16_384, -32_768, 32_767, 0]);
        let back: Vec<f64> = bench("f64", 1.0 / 32_768.0).run_through(1, 100, &integers).unwrap();
        assert_eq!(back[..5], [0.0, 32_767.0 / 32_768.0, -32_767.0 / 32_768.0, 0.5, -1.0]);
    }

    #[test]
    fn every_pair_of_types_keeps_small_numbers() {
        for dtype in REAL_NAMES {
            let mut bench = bench(dtype, 1.0);
            bench.push_frames("in", 5, 2, &[0u8, 1, 100, 127]).unwrap();
            bench.run().unwrap();
            let out = bench.pull_buffer("out").unwrap().unwrap();
            let mut samples = Vec::new();
            out.read_samples(&mut samples).unwrap();
            assert_eq!((samples.as_slice(), out.dtype().name()), (&[0.0, 1.0, 100.0, 127.0][..], *dtype));
            assert_eq!((out.extents(), crate::frames::position(out.timestamp())), (vec![2, 2], Some(5)));
        }
    }

    #[test]
    fn the_same_type_is_not_copied() {
        let mut bench = bench("u32", 1.0);
        let pushed = bench.push("in", &[u32::MAX]).unwrap();
        bench.run().unwrap();
        assert_eq!(bench.pull_buffer("out").unwrap().unwrap().id(), pushed.id());
    }

    #[test]
    fn unknown_types_are_refused() {
        let refusal = Bench::of::<Convert>(&[("dtype", "f16".into())]).err().unwrap().to_string();
        assert_eq!(
            refusal,
            "parameter `dtype`: expected one of: u8, i8, u16, i16, u32, i32, f32, f64, found f16"
        );
    }
}
