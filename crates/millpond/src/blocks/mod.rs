//! The blocks that come with Millpond, one a file.

use crate::catalog::Catalog;

mod clip;
mod convert;
mod copy;
mod csv_sink;
mod delay;
mod gain;
mod head;
mod keep_one_in_n;
mod merge;
mod null_sink;
mod null_source;
mod proc_cpu;
mod proc_file;
mod proc_memory;
mod proc_network;
mod router;
mod selector;
mod skip;
mod tee;
mod throttle;
mod wav_format;
mod wav_sink;
mod wav_source;

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
