ws.on('open', function() {
// Play custom music or messages
const music = fs.readFileSync('hold_music.pcm');
// Loop music while call is on hold
setInterval(() => {
ws.send(music);
}, 1000);
});
