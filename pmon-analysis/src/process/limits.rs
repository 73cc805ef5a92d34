//! Memory limits of the process table.

/// Maximum number of processes in the table.
///
/// Beyond this limit, the table drops the process that ended first; if none has ended, it ignores
/// new processes. The number is the load limit of a hash table of 131,072 slots, so that the table
/// never doubles in size.
pub const MAX_PROCESSES: usize = (1 << 17) / 8 * 7;
/// Maximum number of ended processes in the table.
pub const MAX_DEAD: usize = 1 << 14;
/// Maximum number of bytes stored of a process name.
///
/// The kernel reports at most 64 bytes, and only for its own threads.
pub const MAX_NAME: usize = 64;
/// Maximum number of threads in a detailed table, not counting the first thread of each process.
///
/// Beyond this limit, the table ignores new threads.
pub const MAX_THREADS: usize = 1 << 18;
/// Maximum memory of a detailed table, in bytes.
///
/// Beyond this limit, the table ignores new processes and threads, and drops the texts of new
/// details.
pub const MAX_BYTES: usize = 72 << 20;
