// Measures an echo stream as this browser gets it; the server says what the measurements mean.

const table = document.getElementById("line-findings");
const BADGES = { ok: "badge-green", warning: "badge-amber", problem: "badge-red" };
const HEADERS = ["content-encoding", "content-type", "cache-control", "location"];

// The beats with the moment at which each arrived, in seconds; `ended` is false where the line was cut.
async function listen(beats, silence) {
  const query = new URLSearchParams({ beats, silence, interval: table.dataset.interval });
  const started = performance.now();
  const response = await fetch(`${table.dataset.echo}?${query}`, {
    headers: { Accept: "text/event-stream", "Last-Event-ID": "echo.doctor" },
    cache: "no-store",
  });
  const echo = { status: response.status, headers: {}, beats: [], seen: {}, ended: false };
  for (const name of HEADERS) {
    if (response.headers.has(name)) echo.headers[name] = response.headers.get(name);
  }
  if (response.ok) await collect(response.body.getReader(), echo);
  echo.seconds = (performance.now() - started) / 1000;
  return echo;
}

async function collect(reader, echo) {
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const arrived = performance.now() / 1000;
      text += decoder.decode(value, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) take(block, arrived, echo);
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // a cut line, which is what `ended` tells
  }
}

function take(block, arrived, echo) {
  const data = /^data: (.*)$/m.exec(block);
  if (!data) return;
  if (/^event: end$/m.test(block)) {
    echo.ended = true;
    return;
  }
  const beat = JSON.parse(data[1]);
  echo.beats.push({ sent: beat.sent, arrived });
  if (beat.seen) echo.seen = beat.seen;
}

async function judge(first, silent, idle) {
  const response = await fetch(table.dataset.judge, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": document.body.dataset.csrf },
    body: JSON.stringify({ url: location.origin, first, silent, idle }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer.findings;
}

function protocolFinding() {
  const entry = performance.getEntriesByType("navigation")[0];
  if (!entry || !entry.nextHopProtocol) return [];
  if (entry.nextHopProtocol !== "http/1.1") {
    return [{ level: "ok", message: `This page came over ${entry.nextHopProtocol}.`, advice: "" }];
  }
  return [
    {
      level: "note",
      message: "This page came over HTTP/1.1, which allows six connections in all.",
      advice: "Windows that are hidden let theirs go. With HTTP/2 in the proxy there is no such limit.",
    },
  ];
}

function show(findings) {
  table.replaceChildren(
    ...findings.map((finding) => {
      const row = document.createElement("tr");
      const badge = document.createElement("span");
      badge.className = `badge ${BADGES[finding.level] ?? ""}`.trim();
      badge.textContent = finding.level;
      row.insertCell().append(badge);
      const words = row.insertCell();
      words.append(finding.message);
      if (finding.advice) {
        const advice = document.createElement("span");
        advice.className = "muted";
        advice.textContent = finding.advice;
        words.append(document.createElement("br"), advice);
      }
      return row;
    }),
  );
}

async function examine() {
  const idle = Number(table.dataset.idle);
  const first = await listen(table.dataset.beats, 0);
  const findings = [...(await judge(first, null, 0)), ...protocolFinding()];
  const waiting = { level: "…", message: `Waiting through ${idle} s of silence.`, advice: "" };
  if (first.status !== 200) return show(findings);
  show([...findings, waiting]);
  const silent = await listen(1, idle);
  show([...(await judge(first, silent, idle)), ...protocolFinding()]);
}

examine().catch((error) => show([{ level: "problem", message: `Measuring failed: ${error.message}`, advice: "" }]));
