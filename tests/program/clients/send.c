/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Subscribes with every sending call. Modes: send, sendto, sendmsg, write, writev; mask:
 * subscribes to exits only. */
#include "client.h"

int main(int argc, char **argv) {
    (void)argc;
    stop_on_signals();
    int fd = connector(0);
    bind_to(fd, 0, GROUP);
    struct request subscribe = request(LISTEN, mode_is(argv, "mask") ? EXIT : 0);
    size_t length = subscribe.nl.nlmsg_len;
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    struct iovec parts[] = {{&subscribe.nl, sizeof subscribe.nl}, {&subscribe.cn, sizeof subscribe.cn}, {&subscribe.op, length - 36}};
    struct msghdr message = {&kernel, sizeof kernel, parts, 3, NULL, 0, 0};
    ssize_t sent = -1;
    if (mode_is(argv, "send") || mode_is(argv, "mask")) sent = send(fd, &subscribe, length, 0);
    if (mode_is(argv, "sendto")) sent = sendto(fd, &subscribe, length, 0, (struct sockaddr *)&kernel, sizeof kernel);
    if (mode_is(argv, "sendmsg")) sent = sendmsg(fd, &message, 0);
    if (mode_is(argv, "write")) sent = write(fd, &subscribe, length);
    if (mode_is(argv, "writev")) sent = writev(fd, parts, 3);
    if (sent != (ssize_t)length) die("send");
    while (receive(fd, 0)) {
    }
    send_request(fd, IGNORE, 0);
    return 0;
}
