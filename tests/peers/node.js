// Node's own HTTP server: node node.js PORT
const answers = require("./answers.js");

const write = (response, value) => {
  const body = JSON.stringify(value);
  response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
  response.end(body);
};

require("http").createServer((request, response) => {
  const value = answers(request.url);
  if (value instanceof Promise) value.then((late) => write(response, late));
  else write(response, value);
}).listen(Number(process.argv[2]), "127.0.0.1");
