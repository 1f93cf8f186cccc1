const callId = '652af662-eb45-11ee-b1a5-6fde165f9226';
const token = '<YOUR_AUTH_TOKEN>';
const wsUrl = `wss://api.voipbin.net/v1.0/calls/${callId}/media_stream?encapsulation=rtp&token=${token}`;
const ws = new WebSocket(wsUrl);
ws.binaryType = 'arraybuffer';
ws.onopen = function() {
console.log('Media stream connected');
// Send audio to the call
const audioData = generateAudio();
ws.send(audioData);
};
ws.onmessage = function(event) {
// Receive audio from the call
const audioData = event.data;
console.log(`Received ${audioData.byteLength} bytes`);
// Process audio
processAudio(new Uint8Array(audioData));
};
ws.onerror = function(error) {
console.error('WebSocket error:', error);
};
ws.onclose = function() {
console.log('Media stream closed');
};
function processAudio(audioBuffer) {
// Process received audio
// - Play through Web Audio API
// - Run speech recognition
// - Visualize audio
}
function generateAudio() {
// Generate audio to send
// Returns ArrayBuffer with RTP packets
return new ArrayBuffer(172); // RTP packet size
}
