// Hears the newest call of the PBX into heard.sln, and answers with a second of tone.
import { createWriteStream } from "node:fs";
const WebSocket = globalThis.WebSocket ?? (await import("ws")).default;

const bridge = process.env.BRIDGE_URL ?? "http://127.0.0.1:8080";
const token = encodeURIComponent(process.env.BRIDGE_TOKEN ?? "");
// encapsulation=sln: 16-bit samples, 8000 per second, and nothing else
const tone = Int16Array.from({ length: 8000 }, (_, n) => 8000 * Math.sin((2 * Math.PI * 440 * n) / 8000));

let call;
while (!call) {
  const answer = await fetch(`${bridge}/v1.0/calls?token=${token}`);
  if (!answer.ok) throw new Error(await answer.text());
  call = (await answer.json()).result.find(({ status }) => status === "progressing");
  if (!call) await new Promise((resolve) => setTimeout(resolve, 500));
}
const path = `/v1.0/calls/${encodeURIComponent(call.id)}/media_stream?encapsulation=sln&token=${token}`;
const socket = new WebSocket(bridge.replace(/^http/, "ws") + path);
const heard = createWriteStream("heard.sln");
socket.binaryType = "arraybuffer";
socket.onopen = () => socket.send(tone); // in one message or in many: the bridge plays it at the right speed
socket.onmessage = ({ data }) => heard.write(Buffer.from(data)); // 20 ms each
socket.onclose = ({ code, reason }) =>
  heard.end(() => console.log(`heard ${heard.bytesWritten / 16000} s; closed with ${code} ${reason}`));
