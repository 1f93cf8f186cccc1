// The floor: AudioSocket to WebSocket and back in plain C. One thread, one epoll, 20 ms playout, no features.
//
//     bridge AUDIOSOCKET_PORT APPLICATION_PORT
//
// Binary messages of s16le only. It trusts its peers: no limits, no time-outs, no logging.

#include "../common.h"  // first: it asks for GNU's extensions

#include <sys/epoll.h>
#include <sys/timerfd.h>

enum { PHASES = 4, QUEUE_FRAMES = 64, READ_BYTES = 65536 };

struct Call {
    int asterisk, application;
    bool open;  // the handshake is done
    int phase;
    uint8_t *left_asterisk, *left_application;  // the beginning of what has not come whole
    size_t left_asterisk_size, left_application_size;
    struct Unsent to_asterisk, to_application;
    uint8_t queue[QUEUE_FRAMES][FRAME_BYTES];
    unsigned queued, taken;
    struct Call *next;  // in its phase
};

static int poller, application_port, last_phase;
static struct Call *phases[PHASES];
static uint8_t buffer[2 * READ_BYTES], frame_out[AS_HEADER + READ_BYTES];
static const uint8_t silence[AS_HEADER + FRAME_BYTES] = {AS_SLIN, FRAME_BYTES >> 8, FRAME_BYTES & 0xFF};
static const uint8_t mask[4] = {0x37, 0xFA, 0x21, 0x3D};

static void watch(int fd, struct Call *call, bool application) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uintptr_t)call | application};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static void hang_up(struct Call *call) {
    for (struct Call **at = &phases[call->phase]; *at != NULL; at = &(*at)->next) {
        if (*at == call) {
            *at = call->next;
            break;
        }
    }
    close(call->asterisk);
    if (call->application >= 0) close(call->application);
    call->asterisk = call->application = -1;  // the memory is left: an event for it may still wait
}

// Puts what was left before new data; gives the size of both.
static ssize_t read_into(int fd, uint8_t **left, size_t *left_size) {
    if (*left_size > 0) memcpy(buffer, *left, *left_size);
    ssize_t size = recv(fd, buffer + *left_size, READ_BYTES, MSG_DONTWAIT);
    if (size > 0) {
        size += (ssize_t)*left_size;
        *left_size = 0;
    }
    return size;
}

static void keep(uint8_t **left, size_t *left_size, size_t from, size_t to) {
    *left_size = to - from;
    if (from == to) return;
    if (*left == NULL) *left = must(malloc(READ_BYTES));
    if (*left_size > READ_BYTES) die("a message is too long");
    memcpy(*left, buffer + from, *left_size);
}

static void send_frame(struct Call *call, int opcode, const uint8_t *data, size_t size) {
    size_t header = ws_header(frame_out, opcode, size, mask);
    memcpy(frame_out + header, data, size);
    ws_mask(frame_out + header, size, mask);
    write_or_keep(call->application, &call->to_application, frame_out, header + size);
}

static void dial(struct Call *call) {
    static const char request[] =
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    call->application = connect_to(application_port);
    watch(call->application, call, true);
    write_or_keep(call->application, &call->to_application, request, sizeof request - 1);
    call->phase = last_phase++ % PHASES;
    call->next = phases[call->phase];
    phases[call->phase] = call;
}

static void from_asterisk(struct Call *call) {
    ssize_t size = read_into(call->asterisk, &call->left_asterisk, &call->left_asterisk_size);
    if (size <= 0) {
        if (size == 0 || errno != EAGAIN) hang_up(call);
        return;
    }
    size_t at = 0, end = (size_t)size;
    while (end - at >= AS_HEADER) {
        size_t length = (size_t)buffer[at + 1] << 8 | buffer[at + 2];
        if (end - at - AS_HEADER < length) break;
        if (buffer[at] == AS_UUID)
            dial(call);
        else if (buffer[at] == AS_SLIN && call->open)
            send_frame(call, WS_BINARY, buffer + at + AS_HEADER, length);
        at += AS_HEADER + length;
    }
    keep(&call->left_asterisk, &call->left_asterisk_size, at, end);
}

static void from_application(struct Call *call) {
    ssize_t size = read_into(call->application, &call->left_application, &call->left_application_size);
    if (size <= 0) {
        if (size == 0 || errno != EAGAIN) hang_up(call);
        return;
    }
    size_t at = 0, end = (size_t)size;
    if (!call->open) {
        uint8_t *head = memmem(buffer, end, "\r\n\r\n", 4);
        if (head != NULL) {
            call->open = true;
            at = (size_t)(head - buffer) + 4;
        }
    }
    struct WsFrame frame;
    while (call->open && ws_take(buffer + at, end - at, &frame)) {
        at += frame.whole;
        if (frame.opcode == WS_PING) send_frame(call, WS_PONG, frame.payload, frame.size);
        if (frame.opcode == WS_CLOSE) {
            hang_up(call);
            return;
        }
        if (frame.opcode == WS_BINARY && frame.size == FRAME_BYTES && call->queued - call->taken < QUEUE_FRAMES)
            memcpy(call->queue[call->queued++ % QUEUE_FRAMES], frame.payload, FRAME_BYTES);
    }
    keep(&call->left_application, &call->left_application_size, at, end);
}

static void tick(struct Call *call) {
    if (call->queued == call->taken) {
        write_or_keep(call->asterisk, &call->to_asterisk, silence, sizeof silence);
        return;
    }
    uint8_t message[AS_HEADER + FRAME_BYTES] = {AS_SLIN, FRAME_BYTES >> 8, FRAME_BYTES & 0xFF};
    memcpy(message + AS_HEADER, call->queue[call->taken++ % QUEUE_FRAMES], FRAME_BYTES);
    write_or_keep(call->asterisk, &call->to_asterisk, message, sizeof message);
}

int main(int count, char **arguments) {
    if (count != 3) die("usage: bridge AUDIOSOCKET_PORT APPLICATION_PORT");
    application_port = atoi(arguments[2]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(atoi(arguments[1]));
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct itimerspec every = {{0, FRAME_NS / PHASES}, {0, FRAME_NS / PHASES}};
    timerfd_settime(timer, 0, &every, NULL);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    event.data.u64 = 1;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
    unsigned slot = 0;
    for (;;) {
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            struct Call *call = (struct Call *)(uintptr_t)(events[i].data.u64 & ~1ULL);
            bool application = events[i].data.u64 & 1;
            if (call == NULL && application) {
                uint64_t times = 0;
                if (read(timer, &times, sizeof times) != sizeof times) continue;
                for (; times > 0; times--, slot++)
                    for (call = phases[slot % PHASES]; call != NULL; call = call->next) tick(call);
            } else if (call == NULL) {
                int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (fd < 0) continue;
                set_up_socket(fd);
                call = must(calloc(1, sizeof *call));
                call->asterisk = fd;
                call->application = -1;
                watch(fd, call, false);
            } else if (call->asterisk >= 0) {
                flush_unsent(call->asterisk, &call->to_asterisk);
                if (call->application >= 0) flush_unsent(call->application, &call->to_application);
                (application ? from_application : from_asterisk)(call);
            }
        }
    }
}
