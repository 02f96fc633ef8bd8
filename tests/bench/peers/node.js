// Node's own HTTP server, with what the benchmark asks: node node.js PORT
const tasks = new Map();
for (let i = 0; i < 10; ++i) {
  const id = `00000000-0000-4000-8000-00000000000${i}`;
  tasks.set(id, { id, title: `task ${i}`, description: "two litres", done: false });
}

const answer = (response, value) => {
  const body = JSON.stringify(value);
  response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
  response.end(body);
};

require("http").createServer((request, response) => {
  if (request.url === "/fib/1") return answer(response, { n: 1, fib: 1 });
  if (request.url === "/api/tasks") return answer(response, [...tasks.values()]);
  answer(response, tasks.get(request.url.slice("/api/tasks/".length)));
}).listen(Number(process.argv[2]), "127.0.0.1");
