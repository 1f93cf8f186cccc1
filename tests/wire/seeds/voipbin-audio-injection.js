ws.on('open', function() {
// Play custom audio prompts
const prompt1 = fs.readFileSync('welcome.pcm');
ws.send(prompt1);
// Wait for DTMF or speech
// Then play next prompt
});
