/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Receives only execs, by a classic filter. The filter loads words in network byte order; the
 * kernel writes them in host order. */
#include "client.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <stddef.h>

int main(void) {
    stop_on_signals();
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct message, what)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(EXEC), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog filter = {4, program};
    int fd = connector(0);
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0) die("SO_ATTACH_FILTER");
    bind_to(fd, getpid(), GROUP);
    send_request(fd, LISTEN, 0);
    while (receive(fd, 0)) {
    }
    return 0;
}
