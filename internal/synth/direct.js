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
    // So that it can be interrupted while it is at work and hears nothing.
    fs.writeFileSync(path.join(__dirname, 'pid'), String(process.pid));
    // The kernel looks for this flag among its arguments.
    process.execArgv.push('--preserve-symlinks');
    const { readSync, writeSync } = fs;
    const known = new Set(); // open archives that need not be read
    fs.readSync = (fd, ...rest) => (known.has(fd) ? 0 : readSync(fd === 3 ? 0 : fd, ...rest));
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

    // The folder of this user that stays between runs, if there is one.
    const home = process.env.EKSKMS_CACHE;
    if (home) {
      // jsii links each library from a folder of this run to where it lies unpacked for
      // all runs. Modules are known by that place, and not by the link, so that Node
      // finds what it compiled before; other libraries are still looked for beside the
      // links.
      const libraries = [];
      const { _nodeModulePaths } = Module;
      Module._nodeModulePaths = (from) => {
        const library = libraries.find(({ root }) => (from + path.sep).startsWith(root));
        const paths = _nodeModulePaths(from);
        return library ? [...paths.filter((p) => p.startsWith(library.root)), library.beside] : paths;
      };

      // An archive is hashed before its library is looked for. What a program carries
      // does not change: the hash of an archive is noted with the program and the size,
      // and believed for the same of both where the library is there, complete.
      const notes = path.join(home, 'archives');
      const crypto = require('node:crypto');
      const { createHash } = crypto;
      const { openSync, closeSync, symlinkSync } = fs;
      let hash, noted; // the last hash that was begun, and the note of the last archive
      crypto.createHash = (...args) => (hash = createHash(...args));
      fs.openSync = (file, ...rest) => {
        const fd = openSync(file, ...rest);
        const name = /^(.+)\.[0-9]+\.tgz$/.exec(path.basename(String(file)))?.[1];
        if (!name || path.dirname(String(file)) !== process.env.TMPDIR || !process.env.EKSKMS_PROGRAM) return fd;
        const again = noted?.name === name; // jsii unpacks it, and compares
        noted = { name, program: process.env.EKSKMS_PROGRAM, size: fs.fstatSync(fd).size };
        try {
          if (again) return fd;
          const { program, size, digest, place } = JSON.parse(fs.readFileSync(path.join(notes, name), 'utf8'));
          if (program !== noted.program || size !== noted.size || path.basename(place) !== digest) return fd;
          if (!fs.lstatSync(path.join(place, '.jsii-runtime-package-cache')).isFile()) return fd;
          known.add(fd);
          hash.digest = () => Buffer.from(digest, 'hex');
          noted.believed = true;
        } catch {} // there is no note, or the library is gone
        return fd;
      };
      fs.closeSync = (fd) => {
        known.delete(fd);
        return closeSync(fd);
      };
      fs.symlinkSync = (target, link, ...rest) => {
        symlinkSync(target, link, ...rest);
        const [folder] = String(link).split(`${path.sep}node_modules${path.sep}`);
        if (!path.basename(folder).startsWith('jsii-kernel-')) return;
        // From here on only: what was loaded before lies elsewhere in each run.
        if (!libraries.length && !process.env.NODE_COMPILE_CACHE) Module.enableCompileCache?.(path.join(home, 'compiled'));
        libraries.push({ root: fs.realpathSync(target) + path.sep, beside: path.join(folder, 'node_modules') });
        if (!noted || noted.believed) return;
        try {
          // Whole or not at all, whatever else is at it.
          const unfinished = path.join(notes, `${noted.name}.${process.pid}`);
          fs.mkdirSync(notes, { recursive: true, mode: 0o700 });
          fs.writeFileSync(unfinished, JSON.stringify({ ...noted, digest: path.basename(target), place: target }), { mode: 0o600 });
          fs.renameSync(unfinished, path.join(notes, noted.name));
        } catch {} // it is hashed again the next time
      };
    }
  }
}
