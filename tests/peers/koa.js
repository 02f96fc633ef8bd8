// Koa: node koa.js PORT
const Koa = require("koa");

const answers = require("./answers.js");

const app = new Koa();
app.use(async (context) => {
  context.body = await answers(context.path);
});
app.listen(Number(process.argv[2]), "127.0.0.1");
