//! The blocks that come with Millpond, one a file.

use crate::catalog::Catalog;

mod copy;
mod csv_sink;
mod gain;
mod merge;
mod null_sink;
mod null_source;
mod proc_cpu;
mod proc_file;
mod proc_memory;
mod proc_network;
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
        .add::<null_source::NullSource>()
        .add::<null_sink::NullSink>();
}
