// A straightforward bridge in Go, to compare with: AudioSocket to WebSocket and back.
//
//	bridge AUDIOSOCKET_PORT APPLICATION_PORT DIALECT
//
// Three goroutines a call: one reads AudioSocket, one reads the WebSocket, one plays a frame every 20 ms. Written as one
// would write it, with the usual library for each part, and no feature but the audio.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	frameBytes = 320
	kindUUID   = 0x01
	kindAudio  = 0x10
	maxQueued  = 500 // frames
)

// A Dialect is a wire format. Decode gives s16le, or nothing for a message without audio.
type Dialect interface {
	Greeting() [][]byte
	Encode(frame []byte) []byte // nil: nothing to say yet
	Decode(message []byte) []byte
	Kind() int // of WebSocket message
}

func newDialect(name, call string) Dialect {
	switch name {
	case "sln":
		return sln{}
	case "rtp":
		return &rtp{ssrc: uint32(time.Now().UnixNano())}
	case "audiosocket":
		return audiosocket{}
	case "twilio":
		return &twilio{sid: "MZ" + call, call: call}
	case "voxology":
		return &voxology{id: time.Now().UnixMicro(), call: call}
	case "yeastar":
		return &yeastar{call: call}
	}
	log.Fatalf("no dialect is called %s", name)
	return nil
}

type binaryMessages struct{}

func (binaryMessages) Kind() int          { return websocket.BinaryMessage }
func (binaryMessages) Greeting() [][]byte { return nil }

type textMessages struct{}

func (textMessages) Kind() int { return websocket.TextMessage }

type sln struct{ binaryMessages }

func (sln) Encode(frame []byte) []byte   { return frame }
func (sln) Decode(message []byte) []byte { return message }

type audiosocket struct{ binaryMessages }

func (audiosocket) Encode(frame []byte) []byte { return audioMessage(frame) }
func (audiosocket) Decode(message []byte) []byte {
	if len(message) < 3 || message[0] != kindAudio {
		return nil
	}
	return message[3:]
}

type rtp struct {
	binaryMessages
	sequence  uint16
	timestamp uint32
	ssrc      uint32
}

func (r *rtp) Encode(frame []byte) []byte {
	packet := make([]byte, 12, 12+len(frame)/2)
	packet[0] = 0x80
	binary.BigEndian.PutUint16(packet[2:], r.sequence)
	binary.BigEndian.PutUint32(packet[4:], r.timestamp)
	binary.BigEndian.PutUint32(packet[8:], r.ssrc)
	r.sequence++
	r.timestamp += uint32(len(frame) / 2)
	return append(packet, toUlaw(frame)...)
}

func (r *rtp) Decode(message []byte) []byte {
	if len(message) < 12 {
		return nil
	}
	return fromUlaw(message[12:])
}

type twilio struct {
	textMessages
	sid, call string
	sequence  int
	chunk     int
}

type twilioMedia struct {
	Track     string `json:"track,omitempty"`
	Chunk     string `json:"chunk,omitempty"`
	Timestamp string `json:"timestamp,omitempty"`
	Payload   []byte `json:"payload"`
}

type twilioMessage struct {
	Event          string       `json:"event"`
	SequenceNumber string       `json:"sequenceNumber,omitempty"`
	Media          *twilioMedia `json:"media,omitempty"`
	Start          any          `json:"start,omitempty"`
	StreamSid      string       `json:"streamSid"`
}

func (t *twilio) Greeting() [][]byte {
	t.sequence++
	start := map[string]any{
		"accountSid": "AC0", "streamSid": t.sid, "callSid": t.call, "tracks": []string{"inbound"},
		"mediaFormat":      map[string]any{"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
		"customParameters": map[string]string{},
	}
	return [][]byte{
		[]byte(`{"event":"connected","protocol":"Call","version":"1.0.0"}`),
		mustEncode(twilioMessage{Event: "start", SequenceNumber: "1", Start: start, StreamSid: t.sid}),
	}
}

func (t *twilio) Encode(frame []byte) []byte {
	t.sequence++
	t.chunk++
	return mustEncode(twilioMessage{
		Event:          "media",
		SequenceNumber: strconv.Itoa(t.sequence),
		Media:          &twilioMedia{"inbound", strconv.Itoa(t.chunk), strconv.Itoa(20 * (t.chunk - 1)), toUlaw(frame)},
		StreamSid:      t.sid,
	})
}

func (t *twilio) Decode(message []byte) []byte {
	var received twilioMessage
	if json.Unmarshal(message, &received) != nil || received.Event != "media" || received.Media == nil {
		return nil
	}
	return fromUlaw(received.Media.Payload)
}

type voxology struct {
	textMessages
	id        int64
	call      string
	sequence  int
	track     int
	collected []byte
}

type voxologyMessage struct {
	Type        string `json:"type"`
	Stream      int64  `json:"stream_id"`
	Sequence    int    `json:"stream_sequence_number"`
	Call        string `json:"call_id"`
	Name        string `json:"name,omitempty"`
	TrackNumber int    `json:"track_sequence_number,omitempty"`
	Media       []byte `json:"media,omitempty"`
}

func (v *voxology) Greeting() [][]byte {
	v.sequence++
	return [][]byte{mustEncode(voxologyMessage{Type: "init_stream", Stream: v.id, Sequence: v.sequence, Call: v.call})}
}

func (v *voxology) Encode(frame []byte) []byte {
	v.collected = append(v.collected, toUlaw(frame)...)
	if len(v.collected) < 1280 { // 160 ms
		return nil
	}
	v.sequence++
	v.track++
	message := mustEncode(voxologyMessage{"live_track", v.id, v.sequence, v.call, "caller", v.track, v.collected})
	v.collected = v.collected[:0]
	return message
}

func (v *voxology) Decode([]byte) []byte { return nil }

type yeastar struct {
	textMessages
	call      string
	collected []byte
}

type yeastarMessage struct {
	Call    string `json:"callid"`
	Flow    string `json:"callflow"`
	Audio   []byte `json:"audio"`
	Number  string `json:"number"`
	Status  string `json:"status"`
	Channel string `json:"channelid"`
}

func (y *yeastar) Greeting() [][]byte { return nil }

func (y *yeastar) Encode(frame []byte) []byte {
	y.collected = append(y.collected, frame...)
	if len(y.collected) < 1280 { // 80 ms
		return nil
	}
	message := mustEncode(yeastarMessage{y.call, "", y.collected, "", "process", y.call})
	y.collected = y.collected[:0]
	return message
}

func (y *yeastar) Decode([]byte) []byte { return nil }

func mustEncode(message any) []byte {
	encoded, err := json.Marshal(message)
	if err != nil {
		log.Fatal(err)
	}
	return encoded
}

// mu-law

var ulawOf [65536]byte
var linearOf [256]int16

func init() {
	for i := range ulawOf {
		value, mask := int(int16(i))>>2, 0xFF
		if value < 0 {
			value, mask = -value, 0x7F
		}
		value = min(value, 8159) + 33
		segment := 0
		for end := 0x3F; segment < 8 && value > end; segment++ {
			end = end<<1 | 1
		}
		code := 0x7F
		if segment < 8 {
			code = segment<<4 | value>>(segment+1)&0x0F
		}
		ulawOf[i] = byte(code ^ mask)
	}
	for i := range linearOf {
		code := ^byte(i)
		value := (int(code&0x0F)<<3 + 0x84) << (code & 0x70 >> 4)
		if code&0x80 != 0 {
			linearOf[i] = int16(0x84 - value)
		} else {
			linearOf[i] = int16(value - 0x84)
		}
	}
}

func toUlaw(frame []byte) []byte {
	out := make([]byte, len(frame)/2)
	for i := range out {
		out[i] = ulawOf[binary.LittleEndian.Uint16(frame[2*i:])]
	}
	return out
}

func fromUlaw(codes []byte) []byte {
	out := make([]byte, 2*len(codes))
	for i, code := range codes {
		binary.LittleEndian.PutUint16(out[2*i:], uint16(linearOf[code]))
	}
	return out
}

// One call

func audioMessage(frame []byte) []byte {
	message := make([]byte, 3+len(frame))
	message[0] = kindAudio
	binary.BigEndian.PutUint16(message[1:], uint16(len(frame)))
	copy(message[3:], frame)
	return message
}

func readMessage(reader *bufio.Reader) (byte, []byte, error) {
	var header [3]byte
	if _, err := io.ReadFull(reader, header[:]); err != nil {
		return 0, nil, err
	}
	payload := make([]byte, binary.BigEndian.Uint16(header[1:]))
	_, err := io.ReadFull(reader, payload)
	return header[0], payload, err
}

type queue struct {
	sync.Mutex
	audio bytes.Buffer
}

func (q *queue) put(pcm []byte) {
	q.Lock()
	defer q.Unlock()
	if q.audio.Len() < maxQueued*frameBytes {
		q.audio.Write(pcm)
	}
}

func (q *queue) take(frame []byte) {
	q.Lock()
	defer q.Unlock()
	clear(frame)
	q.audio.Read(frame)
}

func play(asterisk net.Conn, waiting *queue, done <-chan struct{}) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	frame := make([]byte, frameBytes)
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			waiting.take(frame)
			if _, err := asterisk.Write(audioMessage(frame)); err != nil {
				return
			}
		}
	}
}

func serve(asterisk net.Conn, url, name string) {
	defer asterisk.Close()
	reader := bufio.NewReader(asterisk)
	kind, uuid, err := readMessage(reader)
	if err != nil || kind != kindUUID {
		return
	}
	dialect := newDialect(name, hex.EncodeToString(uuid))
	application, _, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		log.Print(err)
		return
	}
	defer application.Close()
	done := make(chan struct{})
	defer close(done)
	var waiting queue
	go play(asterisk, &waiting, done)
	go func() {
		defer asterisk.Close()
		for {
			_, message, err := application.ReadMessage()
			if err != nil {
				return
			}
			if pcm := dialect.Decode(message); pcm != nil {
				waiting.put(pcm)
			}
		}
	}()
	for _, message := range dialect.Greeting() {
		if application.WriteMessage(dialect.Kind(), message) != nil {
			return
		}
	}
	for {
		kind, payload, err := readMessage(reader)
		if err != nil {
			return
		}
		if kind != kindAudio {
			continue
		}
		if message := dialect.Encode(payload); message != nil {
			if application.WriteMessage(dialect.Kind(), message) != nil {
				return
			}
		}
	}
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: bridge AUDIOSOCKET_PORT APPLICATION_PORT DIALECT")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	url := fmt.Sprintf("ws://127.0.0.1:%s/", os.Args[2])
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(connection, url, os.Args[3])
	}
}
