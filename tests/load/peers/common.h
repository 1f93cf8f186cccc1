// What the generator and the C copy share: sockets, WebSocket framing (RFC 6455), mu-law, base64.
#define _GNU_SOURCE
#ifndef COMMON_H
#define COMMON_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    RATE = 8000,
    FRAME_SAMPLES = 160,
    FRAME_BYTES = 2 * FRAME_SAMPLES,
    AS_HEADER = 3,
    AS_HANGUP = 0x00,
    AS_UUID = 0x01,
    AS_SLIN = 0x10,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10,
};

#define FRAME_NS 20000000LL

__attribute__((noreturn, format(printf, 1, 2), unused)) static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

__attribute__((unused)) static void *must(void *memory) {
    if (memory == NULL) die("out of memory");
    return memory;
}

__attribute__((unused)) static int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// Sockets: all on loopback, all without waiting

__attribute__((unused)) static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

__attribute__((unused)) static void set_up_socket(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

__attribute__((unused)) static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    struct sockaddr_in address = loopback(port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1024))
        die("cannot listen on port %d: %s", port, strerror(errno));
    return fd;
}

__attribute__((unused)) static int connect_to(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(port);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        die("cannot connect to port %d: %s", port, strerror(errno));
    set_up_socket(fd);
    return fd;
}

// What could not be written at once

struct Unsent {
    uint8_t *bytes;
    size_t size;
};

enum { UNSENT_MAX = 65536 };

// Writes, or keeps what the kernel does not take. False: too much waits already, nothing was written.
__attribute__((unused)) static bool write_or_keep(int fd, struct Unsent *unsent, const void *data, size_t size) {
    if (unsent->size + size > UNSENT_MAX) return false;
    size_t done = 0;
    if (unsent->size == 0) {
        ssize_t written = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written == (ssize_t)size) return true;
        if (written > 0) done = (size_t)written;
    }
    if (unsent->bytes == NULL) unsent->bytes = must(malloc(UNSENT_MAX));
    memcpy(unsent->bytes + unsent->size, (const uint8_t *)data + done, size - done);
    unsent->size += size - done;
    return true;
}

// True when nothing waits any more.
__attribute__((unused)) static bool flush_unsent(int fd, struct Unsent *unsent) {
    if (unsent->size > 0) {
        ssize_t written = send(fd, unsent->bytes, unsent->size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written > 0) {
            unsent->size -= (size_t)written;
            memmove(unsent->bytes, unsent->bytes + written, unsent->size);
        }
    }
    return unsent->size == 0;
}

// WebSocket frames

enum { WS_HEADER_MAX = 14 };

// Writes the header of a final frame. `mask` NULL: a server's frame.
__attribute__((unused)) static size_t ws_header(uint8_t *to, int opcode, size_t size, const uint8_t *mask) {
    size_t at = 2;
    to[0] = (uint8_t)(0x80 | opcode);
    if (size < 126) {
        to[1] = (uint8_t)size;
    } else if (size < 65536) {
        to[1] = 126;
        to[2] = (uint8_t)(size >> 8);
        to[3] = (uint8_t)size;
        at = 4;
    } else {
        to[1] = 127;
        for (int i = 0; i < 8; i++) to[2 + i] = (uint8_t)((uint64_t)size >> (56 - 8 * i));
        at = 10;
    }
    if (mask != NULL) {
        to[1] |= 0x80;
        memcpy(to + at, mask, 4);
        at += 4;
    }
    return at;
}

struct WsFrame {
    int opcode;
    bool final;
    uint8_t *payload;
    size_t size;
    size_t whole;  // header and payload
};

__attribute__((unused)) static void ws_mask(uint8_t *data, size_t size, const uint8_t *mask) {
    uint32_t four;
    memcpy(&four, mask, 4);
    uint64_t eight = (uint64_t)four << 32 | four;
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        uint64_t word;
        memcpy(&word, data + at, 8);
        word ^= eight;
        memcpy(data + at, &word, 8);
    }
    for (; at < size; at++) data[at] ^= mask[at & 3];
}

// Takes the frame at the beginning of `data`, unmasked in place. False: it is not complete.
__attribute__((unused)) static bool ws_take(uint8_t *data, size_t size, struct WsFrame *frame) {
    if (size < 2) return false;
    uint64_t length = data[1] & 0x7F;
    size_t at = 2;
    if (length == 126) {
        if (size < 4) return false;
        length = (uint64_t)data[2] << 8 | data[3];
        at = 4;
    } else if (length == 127) {
        if (size < 10) return false;
        length = 0;
        for (int i = 0; i < 8; i++) length = length << 8 | data[2 + i];
        at = 10;
    }
    bool masked = data[1] & 0x80;
    size_t mask_at = at;
    if (masked) at += 4;
    if (size < at || size - at < length) return false;
    if (masked) ws_mask(data + at, length, data + mask_at);
    *frame = (struct WsFrame){data[0] & 0x0F, data[0] & 0x80, data + at, length, at + length};
    return true;
}

// mu-law (ITU-T G.711), as every implementation of 14 bits has it

__attribute__((unused)) static uint8_t ulaw_of(int16_t sample) {
    static const int ends[8] = {0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF, 0x1FFF};
    int value = sample >> 2, mask = 0xFF, segment = 0;
    if (value < 0) {
        value = -value;
        mask = 0x7F;
    }
    if (value > 8159) value = 8159;
    value += 33;
    while (segment < 8 && value > ends[segment]) segment++;
    if (segment == 8) return (uint8_t)(0x7F ^ mask);
    return (uint8_t)((segment << 4 | ((value >> (segment + 1)) & 0x0F)) ^ mask);
}

__attribute__((unused)) static int16_t linear_of(uint8_t code) {
    code = (uint8_t)~code;
    int value = ((code & 0x0F) << 3) + 0x84;
    value <<= (code & 0x70) >> 4;
    return (int16_t)(code & 0x80 ? 0x84 - value : value - 0x84);
}

// base64

__attribute__((unused)) static size_t base64_encode(const uint8_t *data, size_t size, char *to) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *begin = to;
    for (; size > 2; size -= 3, data += 3) {
        uint32_t word = (uint32_t)data[0] << 16 | (uint32_t)data[1] << 8 | data[2];
        *to++ = digits[word >> 18];
        *to++ = digits[word >> 12 & 63];
        *to++ = digits[word >> 6 & 63];
        *to++ = digits[word & 63];
    }
    if (size > 0) {
        uint32_t word = (uint32_t)data[0] << 16 | (size > 1 ? (uint32_t)data[1] << 8 : 0);
        *to++ = digits[word >> 18];
        *to++ = digits[word >> 12 & 63];
        *to++ = size > 1 ? digits[word >> 6 & 63] : '=';
        *to++ = '=';
    }
    return (size_t)(to - begin);
}

// Decodes up to a quote; -1 if that is no base64.
__attribute__((unused)) static long base64_decode(const char *text, const char *end, uint8_t *to) {
    static int8_t values[256];
    if (values['B'] == 0) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        memset(values, -1, sizeof values);
        for (int i = 0; i < 64; i++) values[(uint8_t)digits[i]] = (int8_t)i;
    }
    uint8_t *begin = to;
    for (; end - text >= 4 && *text != '"'; text += 4) {
        int a = values[(uint8_t)text[0]], b = values[(uint8_t)text[1]];
        int c = values[(uint8_t)text[2]], d = values[(uint8_t)text[3]];
        if (a < 0 || b < 0) return -1;
        *to++ = (uint8_t)(a << 2 | b >> 4);
        if (text[2] == '=' && text[3] == '=') continue;
        if (c < 0) return -1;
        *to++ = (uint8_t)(b << 4 | c >> 2);
        if (text[3] == '=') continue;
        if (d < 0) return -1;
        *to++ = (uint8_t)(c << 6 | d);
    }
    return text < end && *text == '"' ? to - begin : -1;
}

#endif
