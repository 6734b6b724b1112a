// Preloaded into the Node processes of one traced run (NODE_OPTIONS=--require):
// appends a line of JSON to $BENCH_TRACE that says when this process started,
// and what it did, in milliseconds. main.go adds it up.

const fs = require('node:fs');
const Module = require('node:module');
const path = require('node:path');

const now = () => performance.timeOrigin + performance.now();
const trace = { program: path.basename(process.argv[1] ?? ''), start: performance.timeOrigin };
const phase = (name) => (trace[name] ??= { count: 0, wait: 0, work: 0 });

if (trace.program === 'jsii-runtime.js') {
  // jsii's kernel, which direct.js of internal/synth starts in this process,
  // reads requests from standard input and works on each until it reads the next.
  const { readSync } = fs;
  let current, since;
  fs.readSync = (fd, buffer, ...rest) => {
    if (fd !== 0) return readSync(fd, buffer, ...rest);
    const idle = now();
    trace.ready ??= idle;
    if (current) current.work += idle - since;
    const length = readSync(fd, buffer, ...rest);
    since = now();
    const request = buffer.toString('utf8', 0, Math.min(length, 300));
    const api = /"api":"(\w+)"/.exec(request)?.[1];
    if (api) {
      const synth = api === 'invoke' && request.includes('"method":"synth"');
      current = phase(synth ? 'synth' : api === 'load' ? 'load' : 'calls');
      current.count++;
    }
    if (current) current.wait += since - idle;
    return length;
  };
}

if (trace.program === 'app.js') {
  const load = Module._load;
  Module._load = (request, parent, ...rest) => {
    trace.ready ??= now();
    const exports = load(request, parent, ...rest);
    if (request === 'aws-cdk-lib') {
      Module._load = load;
      const { synth } = exports.App.prototype;
      exports.App.prototype.synth = function (...args) {
        const begin = now();
        phase('calls').work = begin - trace.ready;
        const assembly = synth.apply(this, args);
        phase('synth').work = now() - begin;
        return assembly;
      };
    }
    return exports;
  };
}

process.on('exit', () => {
  trace.end = now();
  fs.appendFileSync(process.env.BENCH_TRACE, JSON.stringify(trace) + '\n');
});
