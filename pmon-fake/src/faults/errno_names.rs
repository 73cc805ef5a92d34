//! The names of Linux's error numbers.

use rustix::io::Errno;

/// The names of all error numbers, including second names, in the order of the numbers.
const NAMES: [(&str, Errno); 135] = [
    ("EPERM", Errno::PERM),
    ("ENOENT", Errno::NOENT),
    ("ESRCH", Errno::SRCH),
    ("EINTR", Errno::INTR),
    ("EIO", Errno::IO),
    ("ENXIO", Errno::NXIO),
    ("E2BIG", Errno::TOOBIG),
    ("ENOEXEC", Errno::NOEXEC),
    ("EBADF", Errno::BADF),
    ("ECHILD", Errno::CHILD),
    ("EAGAIN", Errno::AGAIN),
    ("EWOULDBLOCK", Errno::WOULDBLOCK),
    ("ENOMEM", Errno::NOMEM),
    ("EACCES", Errno::ACCESS),
    ("EFAULT", Errno::FAULT),
    ("ENOTBLK", Errno::NOTBLK),
    ("EBUSY", Errno::BUSY),
    ("EEXIST", Errno::EXIST),
    ("EXDEV", Errno::XDEV),
    ("ENODEV", Errno::NODEV),
    ("ENOTDIR", Errno::NOTDIR),
    ("EISDIR", Errno::ISDIR),
    ("EINVAL", Errno::INVAL),
    ("ENFILE", Errno::NFILE),
    ("EMFILE", Errno::MFILE),
    ("ENOTTY", Errno::NOTTY),
    ("ETXTBSY", Errno::TXTBSY),
    ("EFBIG", Errno::FBIG),
    ("ENOSPC", Errno::NOSPC),
    ("ESPIPE", Errno::SPIPE),
    ("EROFS", Errno::ROFS),
    ("EMLINK", Errno::MLINK),
    ("EPIPE", Errno::PIPE),
    ("EDOM", Errno::DOM),
    ("ERANGE", Errno::RANGE),
    ("EDEADLK", Errno::DEADLK),
    ("EDEADLOCK", Errno::DEADLOCK),
    ("ENAMETOOLONG", Errno::NAMETOOLONG),
    ("ENOLCK", Errno::NOLCK),
    ("ENOSYS", Errno::NOSYS),
    ("ENOTEMPTY", Errno::NOTEMPTY),
    ("ELOOP", Errno::LOOP),
    ("ENOMSG", Errno::NOMSG),
    ("EIDRM", Errno::IDRM),
    ("ECHRNG", Errno::CHRNG),
    ("EL2NSYNC", Errno::L2NSYNC),
    ("EL3HLT", Errno::L3HLT),
    ("EL3RST", Errno::L3RST),
    ("ELNRNG", Errno::LNRNG),
    ("EUNATCH", Errno::UNATCH),
    ("ENOCSI", Errno::NOCSI),
    ("EL2HLT", Errno::L2HLT),
    ("EBADE", Errno::BADE),
    ("EBADR", Errno::BADR),
    ("EXFULL", Errno::XFULL),
    ("ENOANO", Errno::NOANO),
    ("EBADRQC", Errno::BADRQC),
    ("EBADSLT", Errno::BADSLT),
    ("EBFONT", Errno::BFONT),
    ("ENOSTR", Errno::NOSTR),
    ("ENODATA", Errno::NODATA),
    ("ETIME", Errno::TIME),
    ("ENOSR", Errno::NOSR),
    ("ENONET", Errno::NONET),
    ("ENOPKG", Errno::NOPKG),
    ("EREMOTE", Errno::REMOTE),
    ("ENOLINK", Errno::NOLINK),
    ("EADV", Errno::ADV),
    ("ESRMNT", Errno::SRMNT),
    ("ECOMM", Errno::COMM),
    ("EPROTO", Errno::PROTO),
    ("EMULTIHOP", Errno::MULTIHOP),
    ("EDOTDOT", Errno::DOTDOT),
    ("EBADMSG", Errno::BADMSG),
    ("EOVERFLOW", Errno::OVERFLOW),
    ("ENOTUNIQ", Errno::NOTUNIQ),
    ("EBADFD", Errno::BADFD),
    ("EREMCHG", Errno::REMCHG),
    ("ELIBACC", Errno::LIBACC),
    ("ELIBBAD", Errno::LIBBAD),
    ("ELIBSCN", Errno::LIBSCN),
    ("ELIBMAX", Errno::LIBMAX),
    ("ELIBEXEC", Errno::LIBEXEC),
    ("EILSEQ", Errno::ILSEQ),
    ("ERESTART", Errno::RESTART),
    ("ESTRPIPE", Errno::STRPIPE),
    ("EUSERS", Errno::USERS),
    ("ENOTSOCK", Errno::NOTSOCK),
    ("EDESTADDRREQ", Errno::DESTADDRREQ),
    ("EMSGSIZE", Errno::MSGSIZE),
    ("EPROTOTYPE", Errno::PROTOTYPE),
    ("ENOPROTOOPT", Errno::NOPROTOOPT),
    ("EPROTONOSUPPORT", Errno::PROTONOSUPPORT),
    ("ESOCKTNOSUPPORT", Errno::SOCKTNOSUPPORT),
    ("ENOTSUP", Errno::OPNOTSUPP),
    ("EOPNOTSUPP", Errno::NOTSUP),
    ("EOPNOTSUPP", Errno::OPNOTSUPP),
    ("EPFNOSUPPORT", Errno::PFNOSUPPORT),
    ("EAFNOSUPPORT", Errno::AFNOSUPPORT),
    ("EADDRINUSE", Errno::ADDRINUSE),
    ("EADDRNOTAVAIL", Errno::ADDRNOTAVAIL),
    ("ENETDOWN", Errno::NETDOWN),
    ("ENETUNREACH", Errno::NETUNREACH),
    ("ENETRESET", Errno::NETRESET),
    ("ECONNABORTED", Errno::CONNABORTED),
    ("ECONNRESET", Errno::CONNRESET),
    ("ENOBUFS", Errno::NOBUFS),
    ("EISCONN", Errno::ISCONN),
    ("ENOTCONN", Errno::NOTCONN),
    ("ESHUTDOWN", Errno::SHUTDOWN),
    ("ETOOMANYREFS", Errno::TOOMANYREFS),
    ("ETIMEDOUT", Errno::TIMEDOUT),
    ("ECONNREFUSED", Errno::CONNREFUSED),
    ("EHOSTDOWN", Errno::HOSTDOWN),
    ("EHOSTUNREACH", Errno::HOSTUNREACH),
    ("EALREADY", Errno::ALREADY),
    ("EINPROGRESS", Errno::INPROGRESS),
    ("ESTALE", Errno::STALE),
    ("EUCLEAN", Errno::UCLEAN),
    ("ENOTNAM", Errno::NOTNAM),
    ("ENAVAIL", Errno::NAVAIL),
    ("EISNAM", Errno::ISNAM),
    ("EREMOTEIO", Errno::REMOTEIO),
    ("EDQUOT", Errno::DQUOT),
    ("ENOMEDIUM", Errno::NOMEDIUM),
    ("EMEDIUMTYPE", Errno::MEDIUMTYPE),
    ("ECANCELED", Errno::CANCELED),
    ("ENOKEY", Errno::NOKEY),
    ("EKEYEXPIRED", Errno::KEYEXPIRED),
    ("EKEYREVOKED", Errno::KEYREVOKED),
    ("EKEYREJECTED", Errno::KEYREJECTED),
    ("EOWNERDEAD", Errno::OWNERDEAD),
    ("ENOTRECOVERABLE", Errno::NOTRECOVERABLE),
    ("ERFKILL", Errno::RFKILL),
    ("EHWPOISON", Errno::HWPOISON),
];

/// Returns the error number with this name.
pub(super) fn from_name(name: &str) -> Option<Errno> {
    NAMES.iter().find(|(known, _)| *known == name).map(|&(_, errno)| errno)
}

/// Returns the name of an error number.
pub(super) fn name_of(errno: i32) -> Option<&'static str> {
    NAMES.iter().find(|(_, known)| known.raw_os_error() == errno).map(|&(name, _)| name)
}

/// Returns the names of all error numbers.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|&(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_and_each_number_has_a_name() {
        for (name, errno) in NAMES {
            assert_eq!(from_name(name), Some(errno));
            assert!(name_of(errno.raw_os_error()).and_then(from_name) == Some(errno));
        }
        assert_eq!(from_name("ENOBUFS").map(Errno::raw_os_error), Some(105));
        // Linux leaves out 41 and 58.
        assert!((1..=133).all(|errno| name_of(errno).is_some() != [41, 58].contains(&errno)));
    }
}
