// Hears the newest call of the PBX into heard.sln, and answers with a second of tone.
import { createWriteStream, existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";

const bridge = process.env.BRIDGE_URL ?? "http://127.0.0.1:8080";
const first = `${homedir()}/.local/state/asterisk-bridge/token`; // what a bridge creates that has no token configured
const token = process.env.BRIDGE_TOKEN ?? (existsSync(first) ? readFileSync(first, "utf8").trim() : "");
const headers = { Authorization: `Bearer ${token}` };
// encapsulation=sln: 16-bit samples, 8000 per second, and nothing else
const tone = Int16Array.from({ length: 8000 }, (_, n) => 8000 * Math.sin((2 * Math.PI * 440 * n) / 8000));

async function ask(path, method = "GET") {
  const answer = await fetch(`${bridge}${path}`, { method, headers }).catch(({ cause }) => fail(cause?.message));
  return answer.ok ? answer.json() : fail(await answer.text());
}
function fail(problem) {
  console.error(`${bridge}: ${problem}; is the bridge there (BRIDGE_URL), and is the token its own (BRIDGE_TOKEN)?`);
  process.exit(1);
}

let call;
while (!call) {
  call = (await ask("/v1.0/calls")).result.find(({ status }) => status === "progressing");
  if (!call) await new Promise((resolve) => setTimeout(resolve, 500));
}
const path = `/v1.0/calls/${encodeURIComponent(call.id)}`;
// A WebSocket sends no headers of ours, and a token does not belong in a URL: a ticket is good once, for this call.
const { ticket } = await ask(`${path}/tickets`, "POST");
const ws = globalThis.WebSocket ? null : await import("ws").catch(() => console.error("Node 20 needs: npm install ws"));
if (ws === undefined) process.exit(1);
const WebSocket = ws?.default ?? globalThis.WebSocket;
const socket = new WebSocket(`${bridge.replace(/^http/, "ws")}${path}/media_stream?encapsulation=sln&ticket=${ticket}`);
const heard = createWriteStream("heard.sln");
socket.binaryType = "arraybuffer";
socket.onopen = () => socket.send(tone); // in one message or in many: the bridge plays it at the right speed
socket.onmessage = ({ data }) => heard.write(Buffer.from(data)); // 20 ms each
socket.onclose = ({ code, reason }) =>
  heard.end(() => console.log(`heard ${heard.bytesWritten / 16000} s; closed with ${code} ${reason}`));
