// What the peers on Node answer: part of what the six servers do, with tasks from a map. A promise if it takes time.
const tasks = new Map();
for (let i = 0; i < 10; ++i) {
  const id = `00000000-0000-4000-8000-00000000000${i}`;
  tasks.set(id, { id, title: `task ${i}`, description: "two litres", done: false });
}

const fib = (n) => (n < 2 ? n : fib(n - 1) + fib(n - 2));

module.exports = (path) => {
  const [, name, value, id] = path.split("/");
  if (name === "fib") return { n: Number(value), fib: fib(Number(value)) };
  if (name === "sleep") return new Promise((done) => setTimeout(done, value * 1000, { slept: Number(value) }));
  return id ? tasks.get(id) : [...tasks.values()];
};
