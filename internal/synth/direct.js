// The jsii runtime starts Node, which starts Node once more for the kernel and
// from then on only relays what is said between the two. This is preloaded into
// the first and makes it the kernel itself, which saves the start of a process
// and a hop in each call.
//
// The kernel speaks through file descriptor 3, which the relay would connect to
// its own standard input and output, and the relay wraps what the kernel prints.
// If the entry point is not the relay as it is known here, nothing is changed.
const entry = process.argv[1] ?? '';
if (require('node:worker_threads').isMainThread && /[\\/]bin[\\/]jsii-runtime\.js$/.test(entry)) {
  const fs = require('node:fs');
  const Module = require('node:module');
  const path = require('node:path');
  const kernel = path.join(path.dirname(entry), '..', 'lib', 'program.js');
  if (fs.existsSync(kernel)) {
    const { _resolveFilename } = Module;
    Module._resolveFilename = (request, ...rest) =>
      _resolveFilename.call(Module, request === entry ? kernel : request, ...rest);
    // For whoever interrupts it while it is at work and hears nothing.
    fs.writeFileSync(path.join(__dirname, 'pid'), String(process.pid));
    // The kernel looks for this flag among its arguments.
    process.execArgv.push('--preserve-symlinks');
    const { readSync, writeSync } = fs;
    fs.readSync = (fd, ...rest) => readSync(fd === 3 ? 0 : fd, ...rest);
    fs.writeSync = (fd, ...rest) => writeSync(fd === 3 ? 1 : fd, ...rest);

    // All of it, however slowly the other end reads.
    const writeAll = (fd, data) => {
      for (let sent = 0; sent < data.length; ) {
        try {
          sent += writeSync(fd, data, sent);
        } catch (error) {
          if (error.code !== 'EAGAIN') throw error;
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
        }
      }
    };
    for (const name of ['stdout', 'stderr']) {
      process[name].write = (data, encoding, callback) => {
        const bytes = typeof data === 'string' ? Buffer.from(data, typeof encoding === 'string' ? encoding : 'utf8') : Buffer.from(data);
        writeAll(2, Buffer.from(JSON.stringify({ [name]: bytes.toString('base64') }) + '\n'));
        const done = typeof encoding === 'function' ? encoding : callback;
        if (done) process.nextTick(done);
        return true;
      };
    }
  }
}
