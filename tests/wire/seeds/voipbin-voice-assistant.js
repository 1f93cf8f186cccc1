ws.on('message', function(data) {
// Receive customer audio
const audio = extractAudio(data);
// Send to AI for processing
const response = await aiProcess(audio);
// Convert AI response to audio
const responseAudio = textToSpeech(response);
// Send back to call
ws.send(responseAudio);
});
