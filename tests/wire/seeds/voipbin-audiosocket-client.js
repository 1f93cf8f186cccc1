const WebSocket = require('ws');
const fs = require('fs');
const callId = '652af662-eb45-11ee-b1a5-6fde165f9226';
const token = '<YOUR_AUTH_TOKEN>';
const wsUrl = `wss://api.voipbin.net/v1.0/calls/${callId}/media_stream?encapsulation=audiosocket&token=${token}`;
const ws = new WebSocket(wsUrl);
ws.on('open', function() {
console.log('AudioSocket connected');
// Send audio file
const audioFile = fs.readFileSync('audio.pcm');
// Send in chunks (20ms = 320 bytes for 16-bit 8kHz mono)
const chunkSize = 320;
for (let i = 0; i < audioFile.length; i += chunkSize) {
const chunk = audioFile.slice(i, i + chunkSize);
ws.send(chunk);
}
});
ws.on('message', function(data) {
// Receive audio from call
console.log(`Received ${data.length} bytes`);
// Save received audio
fs.appendFileSync('received_audio.pcm', data);
});
ws.on('error', function(error) {
console.error('Error:', error);
});
ws.on('close', function() {
console.log('AudioSocket closed');
});
