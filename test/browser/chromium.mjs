// Debian's Chromium, or the one that an npm package ships with the libraries that it needs:
// CHROMIUM=npm takes that in any case.
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

export async function launch() {
  let executablePath = '/usr/bin/chromium';
  let args = ['--no-sandbox', '--disable-gpu'];
  if (!existsSync(executablePath) || process.env.CHROMIUM === 'npm') {
    process.env.AWS_EXECUTION_ENV ??= 'AWS_Lambda_nodejs22.x'; // has it unpack its libraries
    const shipped = (await import('@sparticuz/chromium')).default;
    executablePath = await shipped.executablePath();
    args = shipped.args.filter(a => a !== '--single-process');
  }
  const browser = await chromium.launch({ executablePath, args: [...args, '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'] });
  console.log(`# Chromium ${browser.version()} from ${executablePath.startsWith('/usr') ? 'the system' : 'npm'}`);
  return browser;
}
