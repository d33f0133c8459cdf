//! The blocks that come with Millpond, one a file.

use crate::catalog::Catalog;

mod add;
mod clip;
mod convert;
mod copy;
mod csv_sink;
mod decimate;
mod deinterleave;
mod delay;
mod fft;
mod fir;
mod fir_design;
mod fir_filter;
mod gain;
mod head;
mod interleave;
mod keep_one_in_n;
mod lockstep;
mod merge;
mod moving_average;
mod multiply;
mod null_sink;
mod null_source;
mod proc_cpu;
mod proc_file;
mod proc_memory;
mod proc_network;
#[cfg(test)]
mod reference;
mod router;
mod selector;
mod signal;
mod skip;
mod tee;
mod throttle;
mod wav_format;
mod wav_sink;
mod wav_source;
mod window;

/// Adds all of them.
pub(crate) fn add_to(catalog: &mut Catalog) {
    catalog
        .add::<proc_cpu::ProcCpu>()
        .add::<proc_memory::ProcMemory>()
        .add::<proc_network::ProcNetwork>()
        .add::<merge::Merge>()
        .add::<csv_sink::CsvSink>()
        .add::<wav_source::WavSource>()
        .add::<wav_sink::WavSink>()
        .add::<gain::Gain>()
        .add::<copy::Copy>()
        .add::<signal::Signal>()
        .add::<add::Add>()
        .add::<multiply::Multiply>()
        .add::<moving_average::MovingAverage>()
        .add::<fir::Fir>()
        .add::<decimate::Decimate>()
        .add::<fft::Fft>()
        .add::<interleave::Interleave>()
        .add::<deinterleave::Deinterleave>()
        .add::<convert::Convert>()
        .add::<clip::Clip>()
        .add::<head::Head>()
        .add::<skip::Skip>()
        .add::<delay::Delay>()
        .add::<keep_one_in_n::KeepOneInN>()
        .add::<throttle::Throttle>()
        .add::<tee::Tee>()
        .add::<selector::Selector>()
        .add::<router::Router>()
        .add::<null_source::NullSource>()
        .add::<null_sink::NullSink>();
}
