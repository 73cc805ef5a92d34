/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Every way to subscribe: send, sendto, sendmsg, write, writev; and what else may come: mask, ignored. */
#include "client.h"

int main(int argc, char **argv) {
    (void)argc;
    until_signalled();
    int fd = connector(0);
    bind_to(fd, 0, GROUP);
    struct request it = request(LISTEN, is(argv, "mask") ? EXIT : 0);
    size_t length = it.nl.nlmsg_len;
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    struct iovec parts[] = {{&it.nl, sizeof it.nl}, {&it.cn, sizeof it.cn}, {&it.op, length - 36}};
    struct msghdr message = {&kernel, sizeof kernel, parts, 3, NULL, 0, 0};
    ssize_t sent = -1;
    if (is(argv, "send") || is(argv, "mask")) sent = send(fd, &it, length, 0);
    if (is(argv, "sendto")) sent = sendto(fd, &it, length, 0, (struct sockaddr *)&kernel, sizeof kernel);
    if (is(argv, "sendmsg")) sent = sendmsg(fd, &message, 0);
    if (is(argv, "write")) sent = write(fd, &it, length);
    if (is(argv, "writev")) sent = writev(fd, parts, 3);
    if (sent != (ssize_t)length) die("send");
    while (receive(fd, 0)) {
    }
    ask(fd, IGNORE, 0);
    return 0;
}
