// Plays both ends of a bridge: N Asterisks that dial its AudioSocket port, and the N applications that it dials.
//
//     generator --calls 200 --bridge PORT --application PORT --dialect sln --way both --pattern aligned
//               --warmup S --seconds S [--pid PID-OF-THE-BRIDGE[,PID...]] [--workers N] [--tracks N]
//
// With tracks each call is N connections from Asterisk, whose audio its one application gets as so many tracks, one way.
// With workers the bridge is N processes: calls dial PORT, PORT+1, ... in turn, and what the processes use is added up.
//
// Every frame of 20 ms says whose it is and which, and the rest of it is a noise that follows from that; what comes out
// at the other end is compared byte by byte. Times are those of the kernel (SO_TIMESTAMPNS): a frame has arrived when
// it is in the socket, however long this program takes to fetch it. The result is one JSON object on standard output.
//
// A frame as samples: 16 that hold four bits each (magic, direction, call, number, check), then 144 of noise. The values
// of the first 16 are such that mu-law keeps them.

#include "common.h"  // first: it asks for GNU's extensions

#include <inttypes.h>
#include <math.h>
#include <sys/epoll.h>
#include <sys/resource.h>

enum {
    HEAD_SAMPLES = 16,
    BODY_SAMPLES = FRAME_SAMPLES - HEAD_SAMPLES,
    NOISE_SAMPLES = 65536,
    READ_BYTES = 262144,
    PART_BYTES = 8192,
    SID_MAX = 64,
    ECHO_FROM = 10,  // the first frames are not echoed: they may come in a burst, which would wait in the bridge for ever
    SETUP_MS = 15000,
    DRAIN_MS = 500,
};

static const int64_t LATE_NS = 2 * FRAME_NS;  // behind the quickest frame of its call

enum Dialect { SLN, RTP, AUDIOSOCKET, TWILIO, VOXOLOGY, YEASTAR };
static const char *const dialect_names[] = {"sln", "rtp", "audiosocket", "twilio", "voxology", "yeastar"};
enum Way { CAPTURE, PLAYOUT, BOTH };
static const char *const way_names[] = {"capture", "playout", "both"};

enum { MAX_PIDS = 16 };

static struct {
    unsigned calls;
    unsigned tracks;
    int bridge, application, workers;
    int pids[MAX_PIDS], pid_count;
    enum Dialect dialect;
    enum Way way;
    bool spread;
    int64_t warmup_ns, window_ns;
} options = {.tracks = 1, .workers = 1, .calls = 10, .warmup_ns = 1000000000, .window_ns = 3000000000};

// One direction of one call
struct Flow {
    int64_t *sent_ns;  // by number; 0: not sent
    uint8_t *times;    // how often it arrived
    int64_t newest;
    uint8_t part[PART_BYTES];  // the beginning of a frame
    size_t part_size;
    bool astray;
};

// One track of a call: a connection from Asterisk. The first track of each has the application's connection too.
struct Call {
    unsigned index;
    int asterisk, application;
    bool upgraded, started;
    uint32_t next;                // number of the frame that is sent next
    uint32_t window[2];           // numbers of the frames sent in the window
    struct Flow capture, playout;
    struct Unsent to_asterisk, to_application;
    uint8_t *left[2];             // incomplete messages of Asterisk's and the application's connection
    size_t left_size[2];
    int64_t last_frame_ns;        // when Asterisk got its last frame
    uint32_t window_frames;       // frames that Asterisk got in the window, silence too
    char sid[SID_MAX];
    bool has_order;
    uint32_t order;               // RTP's number, or a JSON dialect's
    uint32_t rtp_out, ssrc, rtp_time;
};

struct Sample {
    unsigned call;
    int64_t ns;
};

struct Samples {
    struct Sample *all;
    size_t count, room;
};

// Totals of both directions. Each is a count of frames or messages.
struct Result {
    uint64_t sent, received, lost, duplicated, reordered, corrupt, foreign, late, blocked, silent_samples;
    struct Samples latency;
};

static struct Result capture, playout;
static struct Samples intervals;
static uint64_t bad_messages, ended_early, asterisk_frames, messages;
static int64_t sender_late_max_ns, sender_late_sum_ns;
static uint64_t sender_count;

static struct Call *calls;
static unsigned connected;
static uint32_t room_frames;
static int poller;
static int64_t origin_ns, window_begin_ns, window_end_ns, wall_begin_ns, wall_end_ns;
static enum { SETTING_UP, WARMING_UP, MEASURING, DRAINING } phase;
struct Ticks {
    unsigned long long user, kernel;
};

static struct Ticks cpu_begin, cpu_end;
static long rss_idle, rss_end;
static double own_begin_s, own_end_s;

static int16_t noise[NOISE_SAMPLES], noise_after_ulaw[NOISE_SAMPLES];
static uint8_t noise_ulaw[NOISE_SAMPLES];
static int16_t head_linear[16];
static uint8_t buffer[READ_BYTES];

static unsigned legs(void) { return options.calls * options.tracks; }
static struct Call *first_of(unsigned index) { return calls + index / options.tracks * options.tracks; }
static bool is_ulaw(void) { return options.dialect == RTP || options.dialect == TWILIO || options.dialect == VOXOLOGY; }
static bool is_json(void) { return options.dialect >= TWILIO; }

// Frames

static void make_noise(void) {
    uint64_t state = 0x9E3779B97F4A7C15ULL;
    for (int i = 0; i < NOISE_SAMPLES; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise[i] = (int16_t)(state >> 32);
        noise_ulaw[i] = ulaw_of(noise[i]);
        noise_after_ulaw[i] = linear_of(noise_ulaw[i]);
    }
    for (int i = 0; i < 16; i++) head_linear[i] = linear_of((uint8_t)(0x90 | i));
}

static size_t noise_at(unsigned call, uint32_t number, unsigned direction) {
    return (call * 7919ULL + number * 10473ULL + direction * 31337ULL) % (NOISE_SAMPLES - BODY_SAMPLES);
}

static void nibbles_of(unsigned call, uint32_t number, unsigned direction, uint8_t *to) {
    uint64_t all = 0xA5ULL << 52 | (uint64_t)direction << 48 | (uint64_t)(call & 0xFFFF) << 32 | number;
    uint8_t check = 0;
    for (int i = 0; i < 15; i++) {
        to[i] = all >> (56 - 4 * i) & 15;
        check ^= to[i];
    }
    to[15] = check;
}

static size_t make_frame(unsigned call, uint32_t number, unsigned direction, bool ulaw, uint8_t *to) {
    uint8_t nibbles[HEAD_SAMPLES];
    size_t at = noise_at(call, number, direction);
    nibbles_of(call, number, direction, nibbles);
    if (ulaw) {
        for (int i = 0; i < HEAD_SAMPLES; i++) to[i] = 0x90 | nibbles[i];
        memcpy(to + HEAD_SAMPLES, noise_ulaw + at, BODY_SAMPLES);
        return FRAME_SAMPLES;
    }
    for (int i = 0; i < HEAD_SAMPLES; i++) memcpy(to + 2 * i, head_linear + nibbles[i], 2);
    memcpy(to + 2 * HEAD_SAMPLES, noise + at, 2 * BODY_SAMPLES);
    return FRAME_BYTES;
}

// Which four bits a sample holds; -1: none.
static int nibble_of(const uint8_t *sample, bool ulaw) {
    uint8_t code = ulaw ? *sample : 0;
    if (!ulaw) {
        int16_t value;
        memcpy(&value, sample, 2);
        code = ulaw_of(value);
        if (linear_of(code) != value) return -1;
    }
    return (code & 0xF0) == 0x90 ? code & 15 : -1;
}

static void add(struct Samples *samples, unsigned call, int64_t ns) {
    if (samples->count == samples->room) {
        samples->room = samples->room ? 2 * samples->room : 65536;
        samples->all = must(realloc(samples->all, samples->room * sizeof *samples->all));
    }
    samples->all[samples->count++] = (struct Sample){call, ns};
}

static bool in_window(const struct Call *call, uint32_t number) {
    return phase >= MEASURING && number >= call->window[0] && (phase == MEASURING || number < call->window[1]);
}

static void stray(struct Flow *flow, struct Result *result) {
    if (!flow->astray && phase == MEASURING) result->corrupt++;
    flow->astray = true;
}

struct Got {
    bool any;
    uint32_t last;
};

// Takes one frame that begins at `data`; how many bytes it was, or 0 if it is not complete.
static size_t take_frame(
    struct Call *call, struct Flow *flow, struct Result *result, const uint8_t *data, size_t size, bool ulaw, bool linear_noise, struct Got *got
) {
    const size_t unit = ulaw ? 1 : 2;
    const bool silent = ulaw ? data[0] == 0xFF : data[0] == 0 && data[1] == 0;
    if (silent) {
        if (phase == MEASURING) result->silent_samples++;
        flow->astray = false;
        return unit;
    }
    if (size < HEAD_SAMPLES * unit) return 0;
    uint64_t all = 0;
    int check = 0;
    for (int i = 0; i < HEAD_SAMPLES; i++) {
        int nibble = nibble_of(data + unit * (size_t)i, ulaw);
        if (nibble < 0) {
            stray(flow, result);
            return unit;
        }
        check ^= nibble;
        if (i < 15) all = all << 4 | (uint64_t)nibble;
    }
    if (all >> 52 != 0xA5 || check != 0) {
        stray(flow, result);
        return unit;
    }
    if (size < FRAME_SAMPLES * unit) return 0;
    const unsigned direction = all >> 48 & 15, owner = all >> 32 & 0xFFFF;
    const uint32_t number = (uint32_t)all;
    flow->astray = false;
    if (owner != call->index) {
        if (phase == MEASURING) result->foreign++;
        return FRAME_SAMPLES * unit;
    }
    const uint8_t *body = data + HEAD_SAMPLES * unit;
    const size_t at = noise_at(owner, number, direction);
    const void *wanted = ulaw ? (const void *)(noise_ulaw + at) : linear_noise ? (const void *)(noise + at) : (const void *)(noise_after_ulaw + at);
    const bool good = number < room_frames && flow->sent_ns[number] != 0 && direction == (options.way == PLAYOUT) &&
                      memcmp(body, wanted, BODY_SAMPLES * unit) == 0;
    if (!good) {
        if (in_window(call, number)) result->corrupt++;
        if (number < room_frames) flow->times[number] = 1;  // bad, but not lost
        return FRAME_SAMPLES * unit;
    }
    if (flow->times[number] < 255) flow->times[number]++;
    if (in_window(call, number)) {
        if (flow->times[number] > 1)
            result->duplicated++;
        else if (number < flow->newest)
            result->reordered++;
    }
    if (number > flow->newest) flow->newest = number;
    got->any = true;
    got->last = number;
    return FRAME_SAMPLES * unit;
}

static void reply(struct Call *call, const uint8_t *frame, uint32_t number);

// Audio that has arrived on one direction of a call: whole frames are checked, a rest waits.
static void take_audio(struct Call *call, bool is_capture, const uint8_t *data, size_t size, int64_t arrived_ns) {
    struct Flow *flow = is_capture ? &call->capture : &call->playout;
    struct Result *result = is_capture ? &capture : &playout;
    const bool ulaw = is_capture && is_ulaw();
    const bool linear_noise = is_capture || !is_ulaw();
    const size_t frame_bytes = ulaw ? FRAME_SAMPLES : FRAME_BYTES;
    if (flow->part_size > 0) {
        if (flow->part_size + size > PART_BYTES) die("a message with too much audio");
        memcpy(flow->part + flow->part_size, data, size);
        data = flow->part;
        size += flow->part_size;
    }
    struct Got got = {false, 0};
    size_t at = 0;
    while (size - at >= (ulaw ? 1 : 2)) {
        bool had = got.any;
        uint32_t before = got.last;
        size_t used = take_frame(call, flow, result, data + at, size - at, ulaw, linear_noise, &got);
        if (used == 0) break;
        if (is_capture && options.way == BOTH && used == frame_bytes && got.any && (!had || got.last != before))
            reply(call, data + at, got.last);
        at += used;
    }
    // Of several frames in one message only the one that made it complete has not waited for others.
    if (got.any && in_window(call, got.last) && flow->times[got.last] == 1)
        add(&result->latency, call->index, arrived_ns - flow->sent_ns[got.last]);
    flow->part_size = size - at;
    if (flow->part_size > PART_BYTES) die("too much incomplete audio");
    memmove(flow->part, data + at, flow->part_size);
}

// The application's side

static void send_message(struct Call *call, int opcode, const void *data, size_t size) {
    static uint8_t out[WS_HEADER_MAX + 4096];
    if (size > 4096) return;
    size_t header = ws_header(out, opcode, size, NULL);
    memcpy(out + header, data, size);
    if (!write_or_keep(call->application, &call->to_application, out, header + size)) playout.blocked++;
}

// Sends one frame, in the codec of the dialect, to be played.
static void speak(struct Call *call, const uint8_t *frame, uint32_t number) {
    static uint8_t out[4096];
    const size_t size = is_ulaw() ? FRAME_SAMPLES : FRAME_BYTES;
    size_t at = 0;
    if (options.dialect == RTP) {
        const uint8_t header[12] = {0x80, 0, (uint8_t)(call->rtp_out >> 8), (uint8_t)call->rtp_out};
        memcpy(out, header, 12);
        const uint32_t stamp = htonl(call->rtp_out * FRAME_SAMPLES), source = htonl(call->index + 1);
        memcpy(out + 4, &stamp, 4);
        memcpy(out + 8, &source, 4);
        call->rtp_out++;
        at = 12;
    } else if (options.dialect == AUDIOSOCKET) {
        out[0] = AS_SLIN;
        out[1] = FRAME_BYTES >> 8;
        out[2] = FRAME_BYTES & 0xFF;
        at = 3;
    } else if (options.dialect == TWILIO) {
        at = (size_t)sprintf((char *)out, "{\"event\":\"media\",\"streamSid\":\"%s\",\"media\":{\"payload\":\"", call->sid);
    }
    if (is_json()) {
        at += base64_encode(frame, size, (char *)out + at);
        memcpy(out + at, "\"}}", 3);
        at += 3;
    } else {
        memcpy(out + at, frame, size);
        at += size;
    }
    if (number < room_frames) call->playout.sent_ns[number] = clock_ns(CLOCK_REALTIME);
    send_message(call, is_json() ? WS_TEXT : WS_BINARY, out, at);
}

static void reply(struct Call *call, const uint8_t *frame, uint32_t number) {
    if (number >= ECHO_FROM) speak(call, frame, number);
}

static const char *after(const char *text, const char *end, const char *key) {
    const char *found = memmem(text, (size_t)(end - text), key, strlen(key));
    return found ? found + strlen(key) : NULL;
}

// Where the value of a key begins, behind its quote if it is a string.
static const char *value_of(const char *text, const char *end, const char *key) {
    const char *at = after(text, end, key);
    while (at != NULL && at < end && (*at == ' ' || *at == ':')) at++;
    return at != NULL && at < end && *at == '"' ? at + 1 : at;
}

// What counts up by one with every message of a call must do so.
static void check_order(struct Call *call, uint32_t order) {
    if (call->has_order && order != call->order + 1) bad_messages++;
    call->has_order = true;
    call->order = order;
}

// The track of a call that a message is about, by the name it has there; NULL: none of this call's.
static struct Call *track_of(struct Call *call, const char *text, const char *end) {
    static const char *const keys[] = {[TWILIO] = "\"track\"", [VOXOLOGY] = "\"name\"", [YEASTAR] = "\"channelid\""};
    static const char *const names[][2] = {[TWILIO] = {"inbound\"", "outbound\""}, [VOXOLOGY] = {"caller\"", "callee\""}};
    enum { UUID_TEXT = 36, INDEX_TEXT = 8 };
    const char *name = value_of(text, end, keys[options.dialect]);
    if (name == NULL) return NULL;
    if (options.dialect == YEASTAR) {  // the channel is the UUID, which ends with the index
        if (end - name < UUID_TEXT) return NULL;
        const unsigned index = (unsigned)strtoul(name + UUID_TEXT - INDEX_TEXT, NULL, 16);
        return index < legs() && first_of(index) == call ? calls + index : NULL;
    }
    for (unsigned i = 0; i < options.tracks; i++) {
        const char *known = names[options.dialect][i];
        if ((size_t)(end - name) >= strlen(known) && memcmp(name, known, strlen(known)) == 0) return call + i;
    }
    return NULL;
}

static void take_json(struct Call *call, const char *text, size_t size, int64_t arrived_ns) {
    static const char *const audio_keys[] = {
        [TWILIO] = "\"payload\"", [VOXOLOGY] = "\"media\"", [YEASTAR] = "\"audio\""};
    static const char *const order_keys[] = {
        [TWILIO] = "\"sequenceNumber\"", [VOXOLOGY] = "\"stream_sequence_number\""};
    static uint8_t audio[READ_BYTES];
    const char *end = text + size;
    if (options.dialect != YEASTAR) {
        const char *order = value_of(text, end, order_keys[options.dialect]);
        if (order != NULL)
            check_order(call, (uint32_t)strtoul(order, NULL, 10));
        else if (after(text, end, "\"connected\"") == NULL)
            bad_messages++;
    }
    if (call->sid[0] == 0 && options.dialect == TWILIO) {
        const char *sid = value_of(text, end, "\"streamSid\"");
        for (int i = 0; sid != NULL && i < SID_MAX - 1 && sid + i < end && sid[i] != '"'; i++) call->sid[i] = sid[i];
    }
    const char *payload = value_of(text, end, audio_keys[options.dialect]);
    if (payload == NULL) return;  // what is said at the beginning and the end
    if (options.tracks > 1 && (call = track_of(call, text, end)) == NULL) {
        bad_messages++;
        return;
    }
    long found = base64_decode(payload, end, audio);
    if (found < 0)
        bad_messages++;
    else
        take_audio(call, true, audio, (size_t)found, arrived_ns);
}

static void take_binary(struct Call *call, const uint8_t *data, size_t size, int64_t arrived_ns) {
    if (options.dialect == RTP) {
        if (size < 12 || data[0] != 0x80 || (data[1] & 0x7F) != 0) {
            bad_messages++;
            return;
        }
        uint32_t stamp, source;
        memcpy(&stamp, data + 4, 4);
        memcpy(&source, data + 8, 4);
        stamp = ntohl(stamp);
        const uint16_t order = (uint16_t)(data[2] << 8 | data[3]);
        if (call->has_order) {
            if (order != (uint16_t)(call->order + 1) || stamp != call->rtp_time + FRAME_SAMPLES || source != call->ssrc) bad_messages++;
        }
        call->has_order = true;
        call->order = order;
        call->rtp_time = stamp;
        call->ssrc = source;
        data += 12;
        size -= 12;
    } else if (options.dialect == AUDIOSOCKET) {
        if (size < AS_HEADER || data[0] != AS_SLIN || (size_t)(data[1] << 8 | data[2]) != size - AS_HEADER) {
            bad_messages++;
            return;
        }
        data += AS_HEADER;
        size -= AS_HEADER;
    }
    take_audio(call, true, data, size, arrived_ns);
}

static void upgrade(struct Call *call, const char *head, size_t size);

// SHA-1, for the handshake (RFC 3174)
static uint32_t rotate(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

static void sha1(const uint8_t *data, size_t size, uint8_t *digest) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t blocks[192] = {0};
    const size_t total = (size + 9 + 63) / 64 * 64;
    if (total > sizeof blocks) die("the key of a WebSocket handshake is too long");
    memcpy(blocks, data, size);
    blocks[size] = 0x80;
    for (int i = 0; i < 8; i++) blocks[total - 1 - (size_t)i] = (uint8_t)(((uint64_t)size * 8) >> (8 * i));
    for (size_t block = 0; block < total; block += 64) {
        uint32_t w[80];
        for (int i = 0; i < 16; i++) {
            memcpy(w + i, blocks + block + 4 * i, 4);
            w[i] = ntohl(w[i]);
        }
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (b & c) | (~b & d) : i < 40 ? b ^ c ^ d : i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
            static const uint32_t k[4] = {0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6};
            uint32_t next = rotate(a, 5) + f + e + k[i / 20] + w[i];
            e = d;
            d = c;
            c = rotate(b, 30);
            b = a;
            a = next;
        }
        h[0] += a;
        h[1] += b;
        h[2] += c;
        h[3] += d;
        h[4] += e;
    }
    for (int i = 0; i < 5; i++) {
        uint32_t word = htonl(h[i]);
        memcpy(digest + 4 * i, &word, 4);
    }
}

static void upgrade(struct Call *call, const char *head, size_t size) {
    char key[128] = "", answer[256], accept[64] = "";
    uint8_t digest[20];
    const char *end = head + size;
    const char *found = NULL;
    for (const char *line = head; line != NULL && line < end && found == NULL; line = after(line, end, "\r\n"))
        if (strncasecmp(line, "sec-websocket-key:", 18) == 0) found = line + 18;
    while (found != NULL && *found == ' ') found++;
    for (int i = 0; found != NULL && found[i] > ' ' && i < 60; i++) key[i] = found[i];
    if (key[0] == 0) die("a request without Sec-WebSocket-Key");
    strcat(key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    sha1((uint8_t *)key, strlen(key), digest);
    base64_encode(digest, 20, accept);
    int length = sprintf(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    write_or_keep(call->application, &call->to_application, answer, (size_t)length);
    call->upgraded = true;
}

// Sockets

static void watch(int fd, unsigned call, bool application) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)call << 1 | application};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl: %s", strerror(errno));
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
}

static ssize_t receive(int fd, uint8_t *to, size_t room, int64_t *arrived_ns) {
    char control[CMSG_SPACE(sizeof(struct timespec))];
    struct iovec part = {to, room};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t size = recvmsg(fd, &message, MSG_DONTWAIT);
    *arrived_ns = 0;
    if (size > 0) {
        for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each != NULL; each = CMSG_NXTHDR(&message, each)) {
            if (each->cmsg_level == SOL_SOCKET && each->cmsg_type == SCM_TIMESTAMPNS) {
                struct timespec stamp;
                memcpy(&stamp, CMSG_DATA(each), sizeof stamp);
                *arrived_ns = stamp.tv_sec * 1000000000LL + stamp.tv_nsec;
            }
        }
        if (*arrived_ns == 0) *arrived_ns = clock_ns(CLOCK_REALTIME);
    }
    return size;
}

static void over(struct Call *call, bool application) {
    ended_early++;
    int *fd = application ? &call->application : &call->asterisk;
    close(*fd);
    *fd = -1;
    call->started = false;
}

// Reads behind what is left of the last time. The new size, or 0 if there is nothing or the connection has ended.
static size_t fetch(struct Call *call, bool application, int64_t *arrived_ns) {
    int fd = application ? call->application : call->asterisk;
    size_t left = call->left_size[application];
    if (left > 0) memcpy(buffer, call->left[application], left);
    ssize_t size = receive(fd, buffer + left, READ_BYTES - left, arrived_ns);
    if (size > 0) return left + (size_t)size;
    if (size == 0 || errno != EAGAIN) over(call, application);
    return 0;
}

static void keep(struct Call *call, bool application, size_t from, size_t size) {
    const size_t rest = size - from;
    if (rest > 65536) die("a message of the bridge is too long");
    if (rest > 0 && call->left[application] == NULL) call->left[application] = must(malloc(65536));
    if (rest > 0) memcpy(call->left[application], buffer + from, rest);
    call->left_size[application] = rest;
}

static void from_bridge_to_asterisk(struct Call *call) {
    int64_t arrived_ns;
    const size_t size = fetch(call, false, &arrived_ns);
    size_t at = 0;
    if (size == 0) return;
    while (size - at >= AS_HEADER) {
        const size_t length = (size_t)buffer[at + 1] << 8 | buffer[at + 2];
        if (size - at - AS_HEADER < length) break;
        if (buffer[at] == AS_SLIN && length == FRAME_BYTES) {
            if (phase == MEASURING) {
                call->window_frames++;
                if (call->last_frame_ns != 0) add(&intervals, call->index, llabs(arrived_ns - call->last_frame_ns - FRAME_NS));
            }
            call->last_frame_ns = arrived_ns;
            asterisk_frames++;
            take_audio(call, false, buffer + at + AS_HEADER, length, arrived_ns);
        } else {
            bad_messages++;
        }
        at += AS_HEADER + length;
    }
    keep(call, false, at, size);
}

static void from_bridge_to_application(struct Call *call) {
    int64_t arrived_ns;
    const size_t size = fetch(call, true, &arrived_ns);
    size_t at = 0;
    if (size == 0) return;
    if (!call->upgraded) {
        uint8_t *head = memmem(buffer, size, "\r\n\r\n", 4);
        if (head != NULL) {
            at = (size_t)(head - buffer) + 4;
            upgrade(call, (char *)buffer, at);
        }
    }
    struct WsFrame frame;
    while (call->upgraded && ws_take(buffer + at, size - at, &frame)) {
        at += frame.whole;
        messages++;
        if (frame.opcode == WS_PING)
            send_message(call, WS_PONG, frame.payload, frame.size);
        else if (frame.opcode == WS_CLOSE) {
            over(call, true);
            return;
        } else if (frame.opcode == WS_BINARY && !is_json() && frame.final)
            take_binary(call, frame.payload, frame.size, arrived_ns);
        else if (frame.opcode == WS_TEXT && is_json() && frame.final)
            take_json(call, (char *)frame.payload, frame.size, arrived_ns);
        else if (frame.opcode != WS_PONG)
            bad_messages++;
    }
    keep(call, true, at, size);
}

// Time

static int64_t phase_of(unsigned call) { return options.spread ? (int64_t)call * FRAME_NS / legs() : 0; }

static uint64_t turn;  // counts every call in every 20 ms

static int64_t deadline_of(uint64_t at) {
    return origin_ns + (int64_t)(at / legs()) * FRAME_NS + phase_of((unsigned)(at % legs()));
}

static void send_one(struct Call *call, int64_t deadline_ns) {
    const uint32_t number = call->next;
    if (number >= room_frames) return;
    call->next++;
    if (options.way == PLAYOUT) {
        uint8_t frame[FRAME_BYTES];
        make_frame(call->index, number, 1, is_ulaw(), frame);
        speak(call, frame, number);
    } else {
        uint8_t message[AS_HEADER + FRAME_BYTES] = {AS_SLIN, FRAME_BYTES >> 8, FRAME_BYTES & 0xFF};
        make_frame(call->index, number, 0, false, message + AS_HEADER);
        call->capture.sent_ns[number] = clock_ns(CLOCK_REALTIME);
        if (!write_or_keep(call->asterisk, &call->to_asterisk, message, sizeof message)) capture.blocked++;
    }
    if (phase == MEASURING) {
        const int64_t late = clock_ns(CLOCK_MONOTONIC) - deadline_ns;
        if (late > sender_late_max_ns) sender_late_max_ns = late;
        sender_late_sum_ns += late;
        sender_count++;
    }
}

static void send_due(void) {
    int64_t now = clock_ns(CLOCK_MONOTONIC);
    for (int64_t deadline; (deadline = deadline_of(turn)) <= now; turn++) {
        struct Call *call = calls + turn % legs();
        // A JSON application may only speak once it knows its stream.
        if (call->started && (options.way != PLAYOUT || options.dialect != TWILIO || call->sid[0])) send_one(call, deadline);
        if ((turn & 63) == 0) now = clock_ns(CLOCK_MONOTONIC);
    }
}

// The bridge, as the kernel sees it

static struct Ticks cpu_ticks(void) {
    struct Ticks all = {0, 0};
    for (int i = 0; i < options.pid_count; i++) {
        char path[64], line[1024] = "";
        struct Ticks ticks = {0, 0};
        snprintf(path, sizeof path, "/proc/%d/stat", options.pids[i]);
        FILE *file = fopen(path, "r");
        if (file == NULL) continue;
        const char *fields = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
        if (fields != NULL) sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &ticks.user, &ticks.kernel);
        fclose(file);
        all.user += ticks.user;
        all.kernel += ticks.kernel;
    }
    return all;
}

static long rss_kb(void) {
    long all = 0;
    for (int i = 0; i < options.pid_count; i++) {
        char path[64];
        long pages = 0;
        snprintf(path, sizeof path, "/proc/%d/statm", options.pids[i]);
        FILE *file = fopen(path, "r");
        if (file == NULL) continue;
        if (fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
        fclose(file);
        all += pages;
    }
    return all * (sysconf(_SC_PAGESIZE) / 1024);
}

static double own_cpu_s(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + 1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

// The run

static void dial(unsigned index) {
    struct Call *call = calls + index;
    uint8_t message[AS_HEADER + 16] = {AS_UUID, 0, 16};
    for (int i = 0; i < 4; i++) message[AS_HEADER + 12 + i] = (uint8_t)(index >> (24 - 8 * i));
    message[AS_HEADER + 6] = 0x40;  // version 4
    message[AS_HEADER + 8] = 0x80;
    call->asterisk = connect_to(options.bridge + (int)index % options.workers);
    watch(call->asterisk, index, false);
    write_or_keep(call->asterisk, &call->to_asterisk, message, sizeof message);
}

static void accept_application(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) return;
    set_up_socket(fd);
    struct Call *call = calls + connected;  // they are dialed one after the other, so it is this one's
    if (connected == legs() || call->application >= 0) {
        bad_messages++;
        close(fd);
        return;
    }
    call->application = fd;
    watch(fd, connected, true);
}

static void step(int64_t now) {
    while (phase == SETTING_UP && connected < legs() && first_of(connected)->upgraded) {
        calls[connected].started = true;
        if (++connected < legs()) dial(connected);
    }
    if (phase == SETTING_UP && connected == legs()) {
        phase = WARMING_UP;
        window_begin_ns = now + options.warmup_ns;
        window_end_ns = window_begin_ns + options.window_ns;
    } else if (phase == WARMING_UP && now >= window_begin_ns) {
        phase = MEASURING;
        for (unsigned i = 0; i < legs(); i++) calls[i].window[0] = calls[i].next;
        cpu_begin = cpu_ticks();
        own_begin_s = own_cpu_s();
        wall_begin_ns = now;
    } else if (phase == MEASURING && now >= window_end_ns) {
        phase = DRAINING;
        for (unsigned i = 0; i < legs(); i++) calls[i].window[1] = calls[i].next;
        cpu_end = cpu_ticks();
        own_end_s = own_cpu_s();
        wall_end_ns = now;
        rss_end = rss_kb();
    }
}

static void run(void) {
    int listener = listen_on(options.application);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = UINT64_MAX};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    rss_idle = rss_kb();
    origin_ns = clock_ns(CLOCK_MONOTONIC) + 5000000;
    const int64_t give_up_ns = origin_ns + SETUP_MS * 1000000LL;
    dial(0);
    for (;;) {
        int64_t now = clock_ns(CLOCK_MONOTONIC);
        step(now);
        if (phase == DRAINING && now >= window_end_ns + DRAIN_MS * 1000000LL) return;
        if (phase == SETTING_UP && now > give_up_ns) die("only %u of %u connections were connected within %d s", connected, legs(), SETUP_MS / 1000);
        send_due();
        int64_t wait_ns = deadline_of(turn) - clock_ns(CLOCK_MONOTONIC);
        if (wait_ns < 0) wait_ns = 0;
        struct timespec wait = {0, wait_ns};
        struct epoll_event events[64];  // few at a time, so that sending is never held up for long
        int ready = epoll_pwait2(poller, events, 64, &wait, NULL);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.u64 == UINT64_MAX) {
                accept_application(listener);
                continue;
            }
            struct Call *call = calls + (events[i].data.u64 >> 1);
            const bool application = events[i].data.u64 & 1;
            if ((application ? call->application : call->asterisk) < 0) continue;
            flush_unsent(application ? call->application : call->asterisk, application ? &call->to_application : &call->to_asterisk);
            (application ? from_bridge_to_application : from_bridge_to_asterisk)(call);
        }
    }
}

// The report

static int by_ns(const void *a, const void *b) {
    const int64_t x = ((const struct Sample *)a)->ns, y = ((const struct Sample *)b)->ns;
    return (x > y) - (x < y);
}

static double quantile_ms(const struct Samples *samples, double share) {
    if (samples->count == 0) return 0;
    size_t at = (size_t)ceil(share * (double)samples->count);
    if (at > 0) at--;
    return (double)samples->all[at].ns / 1e6;
}

static void print_times(const char *name, struct Samples *samples) {
    if (samples->count > 0) qsort(samples->all, samples->count, sizeof *samples->all, by_ns);
    printf("\"%s\": {\"count\": %zu, \"p50\": %.4f, \"p99\": %.4f, \"p999\": %.4f, \"max\": %.4f}", name, samples->count,
           quantile_ms(samples, 0.5), quantile_ms(samples, 0.99), quantile_ms(samples, 0.999), quantile_ms(samples, 1));
}

static void print_result(const char *name, struct Result *result) {
    int64_t *least = must(malloc(legs() * sizeof *least));
    struct Samples over_least = {0};
    for (unsigned i = 0; i < legs(); i++) {
        struct Flow *flow = result == &capture ? &calls[i].capture : &calls[i].playout;
        least[i] = INT64_MAX;
        for (uint32_t number = calls[i].window[0]; number < calls[i].window[1] && number < room_frames; number++) {
            if (flow->sent_ns[number] == 0) continue;
            result->sent++;
            if (flow->times[number] == 0)
                result->lost++;
            else
                result->received++;
        }
    }
    for (size_t i = 0; i < result->latency.count; i++) {
        struct Sample sample = result->latency.all[i];
        if (sample.ns < least[sample.call]) least[sample.call] = sample.ns;
    }
    for (size_t i = 0; i < result->latency.count; i++) {
        struct Sample sample = result->latency.all[i];
        add(&over_least, sample.call, sample.ns - least[sample.call]);
        if (sample.ns - least[sample.call] > LATE_NS) result->late++;
    }
    printf("\"%s\": {\"sent\": %" PRIu64 ", \"received\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"duplicated\": %" PRIu64
           ", \"reordered\": %" PRIu64 ", \"corrupt\": %" PRIu64 ", \"foreign\": %" PRIu64 ", \"late\": %" PRIu64
           ", \"blocked\": %" PRIu64 ", \"silent_samples\": %" PRIu64 ", ",
           name, result->sent, result->received, result->lost, result->duplicated, result->reordered, result->corrupt,
           result->foreign, result->late, result->blocked, result->silent_samples);
    print_times("latency_ms", &result->latency);
    printf(", ");
    print_times("over_least_ms", &over_least);
    printf("}, ");
    free(least);
}

static void report(void) {
    const double seconds = (double)(wall_end_ns - wall_begin_ns) / 1e9;
    const double tick_ms = 1000.0 / (double)sysconf(_SC_CLK_TCK);
    const double user_ms = tick_ms * (double)(cpu_end.user - cpu_begin.user);
    const double kernel_ms = tick_ms * (double)(cpu_end.kernel - cpu_begin.kernel);
    const double cpu_ms = user_ms + kernel_ms;
    double fewest = INFINITY, most = 0, all = 0;
    for (unsigned i = 0; i < legs(); i++) {
        const double rate = calls[i].window_frames / seconds;
        if (rate < fewest) fewest = rate;
        if (rate > most) most = rate;
        all += rate;
    }
    printf("{\"calls\": %u, \"dialect\": \"%s\", \"way\": \"%s\", \"pattern\": \"%s\", \"seconds\": %.3f, ", options.calls,
           dialect_names[options.dialect], way_names[options.way], options.spread ? "spread" : "aligned", seconds);
    printf("\"user_ms\": %.1f, \"kernel_ms\": %.1f, ", user_ms, kernel_ms);
    printf("\"cpu_ms\": %.1f, \"cpu_ms_per_call_second\": %.4f, \"core_share\": %.4f, ", cpu_ms, cpu_ms / seconds / options.calls, cpu_ms / seconds / 1000);
    printf("\"rss_idle_kb\": %ld, \"rss_kb\": %ld, \"kb_per_call\": %.2f, ", rss_idle, rss_end, (double)(rss_end - rss_idle) / options.calls);
    print_result("capture", &capture);
    print_result("playout", &playout);
    print_times("interval_off_ms", &intervals);
    printf(", \"frames_per_second\": {\"least\": %.3f, \"mean\": %.3f, \"most\": %.3f}, ", fewest, all / legs(), most);
    printf("\"bad_messages\": %" PRIu64 ", \"ended_early\": %" PRIu64 ", \"messages\": %" PRIu64 ", ", bad_messages, ended_early, messages);
    printf("\"generator\": {\"core_share\": %.4f, \"late_mean_ms\": %.4f, \"late_max_ms\": %.4f}}\n", (own_end_s - own_begin_s) / seconds,
           sender_count ? (double)sender_late_sum_ns / (double)sender_count / 1e6 : 0.0, (double)sender_late_max_ns / 1e6);
}

static int one_of(const char *text, const char *const *names, int count, const char *what) {
    for (int i = 0; i < count; i++)
        if (strcmp(text, names[i]) == 0) return i;
    die("no %s is called %s", what, text);
}

static void read_pids(const char *text) {
    for (char *end; *text != '\0' && options.pid_count < MAX_PIDS; text = *end == ',' ? end + 1 : end) {
        options.pids[options.pid_count++] = (int)strtol(text, &end, 10);
        if (end == text) die("%s is no process", text);
    }
}

static void read_options(int count, char **arguments) {
    static const char *const patterns[] = {"aligned", "spread"};
    for (int i = 1; i + 1 < count; i += 2) {
        const char *name = arguments[i], *value = arguments[i + 1];
        if (strcmp(name, "--calls") == 0) options.calls = (unsigned)atoi(value);
        else if (strcmp(name, "--bridge") == 0) options.bridge = atoi(value);
        else if (strcmp(name, "--application") == 0) options.application = atoi(value);
        else if (strcmp(name, "--workers") == 0) options.workers = atoi(value);
        else if (strcmp(name, "--tracks") == 0) options.tracks = (unsigned)atoi(value);
        else if (strcmp(name, "--pid") == 0) read_pids(value);
        else if (strcmp(name, "--warmup") == 0) options.warmup_ns = (int64_t)(atof(value) * 1e9);
        else if (strcmp(name, "--seconds") == 0) options.window_ns = (int64_t)(atof(value) * 1e9);
        else if (strcmp(name, "--dialect") == 0) options.dialect = (enum Dialect)one_of(value, dialect_names, 6, "dialect");
        else if (strcmp(name, "--way") == 0) options.way = (enum Way)one_of(value, way_names, 3, "way");
        else if (strcmp(name, "--pattern") == 0) options.spread = one_of(value, patterns, 2, "pattern");
        else die("%s is no option", name);
    }
    if (options.tracks < 1 || options.tracks > 2) die("--tracks is 1 or 2");
    if (options.tracks > 1 && (!is_json() || options.way != CAPTURE || options.workers > 1))
        die("several tracks are for JSON dialects, capture and one process");
    if (options.workers < 1 || options.calls < 1 || legs() > 65535 || !options.bridge || !options.application)
        die("--calls, --bridge and --application are needed");
    if (options.dialect >= VOXOLOGY && options.way != CAPTURE) die("%s is one way only", dialect_names[options.dialect]);
}

int main(int count, char **arguments) {
    read_options(count, arguments);
    make_noise();
    room_frames = (uint32_t)((options.warmup_ns + options.window_ns) / FRAME_NS) + 50 * (SETUP_MS + DRAIN_MS + 1000) / 1000;
    calls = must(calloc(legs(), sizeof *calls));
    for (unsigned i = 0; i < legs(); i++) {
        struct Flow *flows[] = {&calls[i].capture, &calls[i].playout};
        calls[i].index = i;
        calls[i].asterisk = calls[i].application = -1;
        for (int f = 0; f < 2; f++) {
            flows[f]->sent_ns = must(calloc(room_frames, sizeof *flows[f]->sent_ns));
            flows[f]->times = must(calloc(room_frames, 1));
            flows[f]->newest = -1;
        }
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    run();
    report();
    return 0;
}
