//! The blocks that come with Millpond, one a file.

use crate::catalog::Catalog;

mod add;
mod async_merge;
mod choice;
mod clip;
mod combine;
mod convert;
mod copy;
mod correlate;
mod csv_sink;
mod csv_source;
mod decimate;
mod deinterleave;
mod delay;
mod exec;
mod exec_sink;
mod exec_source;
mod fft;
mod file_sink;
mod file_source;
mod files;
mod fir;
mod fir_design;
mod fir_filter;
mod gain;
mod head;
mod interleave;
mod interpolate;
mod keep_one_in_n;
mod last_stamp;
mod lockstep;
mod message_debug;
mod moving_average;
mod multiply;
mod null_sink;
mod null_source;
mod print;
mod proc_cpu;
mod proc_file;
mod proc_memory;
mod proc_network;
mod program;
mod rate_change;
mod rate_probe;
mod raw_stream;
#[cfg(test)]
mod reference;
mod resampler;
mod restamp;
mod router;
mod selector;
mod signal;
#[cfg(test)]
mod sizes;
mod skip;
mod stdin_source;
mod stdout_sink;
mod strobe;
mod sync_merge;
mod tcp;
mod tcp_sink;
mod tcp_source;
mod tee;
mod throttle;
mod timed_inputs;
mod udp_sink;
mod udp_source;
mod wav_file;
mod wav_format;
mod wav_sink;
mod wav_source;
mod window;
mod window_aggregate;

/// Adds all of them.
pub(crate) fn add_to(catalog: &mut Catalog) {
    catalog
        .add::<proc_cpu::ProcCpu>()
        .add::<proc_memory::ProcMemory>()
        .add::<proc_network::ProcNetwork>()
        .add::<async_merge::AsyncMerge>()
        .add::<sync_merge::SyncMerge>()
        .add::<window_aggregate::WindowAggregate>()
        .add::<interpolate::Interpolate>()
        .add::<correlate::Correlate>()
        .add::<restamp::Restamp>()
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
        .add::<resampler::Resampler>()
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
        .add::<file_source::FileSource>()
        .add::<file_sink::FileSink>()
        .add::<csv_source::CsvSource>()
        .add::<stdin_source::StdinSource>()
        .add::<stdout_sink::StdoutSink>()
        .add::<tcp_source::TcpSource>()
        .add::<tcp_sink::TcpSink>()
        .add::<udp_source::UdpSource>()
        .add::<udp_sink::UdpSink>()
        .add::<exec::Exec>()
        .add::<exec_source::ExecSource>()
        .add::<exec_sink::ExecSink>()
        .add::<print::Print>()
        .add::<rate_probe::RateProbe>()
        .add::<strobe::Strobe>()
        .add::<message_debug::MessageDebug>()
        .add::<null_source::NullSource>()
        .add::<null_sink::NullSink>();
}
