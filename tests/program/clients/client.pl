# SPDX-License-Identifier: MIT OR Apache-2.0
# Receives with recv and sysread alternately. Perl calls fcntl, ioctl and lseek on the descriptor
# first.
use strict;
use warnings;
use Socket;

$| = 1;
$SIG{INT} = $SIG{TERM} = sub { exit 0 };
socket(my $sock, 16, SOCK_DGRAM, 11) or die "socket: $!";
bind($sock, pack("SSLL", 16, 0, $$, 1)) or die "bind: $!";
send($sock, pack("LSSLLLLLLSSL", 40, 3, 0, 0, $$, 1, 1, 0, 0, 4, 0, 1), 0) or die "send: $!";
for (my $count = 0; ; $count++) {
    my $datagram;
    if ($count % 2) { sysread($sock, $datagram, 4096) or die "sysread: $!" }
    else { defined recv($sock, $datagram, 4096, 0) or die "recv: $!" }
    my ($what, @data) = unpack("x36 L x12 L6", $datagram);
    if ($what == 0) { print "ack\n" }
    elsif ($what == 0x1) { print "fork $data[0] $data[2]\n" }
    elsif ($what == 0x2) { print "exec $data[0]\n" }
    elsif ($what == 0x4) { print "uid $data[0] $data[2] $data[3]\n" }
    elsif ($what == 0x40) { print "gid $data[0] $data[2] $data[3]\n" }
    elsif ($what == 0x80) { print "sid $data[0]\n" }
    elsif ($what == 0x100) { print "ptrace $data[0] $data[2]\n" }
    elsif ($what == 0x200) { print "comm $data[0] ", unpack("x60 Z16", $datagram), "\n" }
    elsif ($what == 0x40000000) { print "coredump $data[0]\n" }
    elsif ($what == 0x80000000) { print "exit $data[0] $data[2]\n" }
}
