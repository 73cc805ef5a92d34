/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Opens sockets as a 32-bit program does, on the proc connector and on another protocol: with
 * `socket`, and with the older `socketcall`, which reads its arguments from memory. */
#include "client.h"
#include <sys/mman.h>

#ifdef __x86_64__
static void unsupported(int signal) {
    (void)signal;
    write(1, "not supported\n", 14);
    _exit(0);
}

static long call(long nr, long first, long second, long third) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(first), "c"(second), "d"(third) : "r8", "r9", "r10", "r11", "memory");
    return (int)result;
}

static void print_result(const char *name, long result) {
    printf("%s: %s\n", name, result < 0 ? strerrorname_np(-result) : "open");
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    handle(SIGSEGV, unsupported);
    uint32_t *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (args == MAP_FAILED) die("mmap");
    int protocols[] = {NETLINK_CONNECTOR, NETLINK_ROUTE};
    for (int i = 0; i < 2; i++) {
        memcpy(args, (uint32_t[]){AF_NETLINK, SOCK_DGRAM, protocols[i]}, 12);
        print_result("socket", call(359, AF_NETLINK, SOCK_DGRAM, protocols[i]));
        print_result("socketcall", call(102, 1, (long)args, 0));
    }
    return 0;
}
#else
int main(void) {
    printf("not supported\n");
    return 0;
}
#endif
