// The staff page of the active streams: asks its source every second while it is seen.

const table = document.getElementById("streams");
const state = document.getElementById("streams-state");
const columns = ["stream", "subscribers", "messages", "bytes", "cursor"];
const count = (number, word) => `${number.toLocaleString()} ${word}${number === 1 ? "" : "s"}`;

function show(rows) {
  table.tBodies[0].replaceChildren(
    ...rows.map((row) => {
      const line = document.createElement("tr");
      for (const column of columns) {
        line.insertCell().textContent = row[column].toLocaleString();
      }
      return line;
    }),
  );
  const readers = rows.reduce((sum, row) => sum + row.subscribers, 0);
  state.textContent = `${count(rows.length, "stream")}, ${count(readers, "subscriber")}`;
}

async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch(table.dataset.source, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      show(await answer.json());
    } catch (error) {
      state.textContent = `No news: ${error.message}`;
    }
  }
  setTimeout(refresh, 1000);
}

refresh();
