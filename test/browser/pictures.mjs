// Takes the pictures of the docs. usage: node pictures.mjs FOLDER, with the pages in PAGES.
import { mkdirSync, readdirSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { launch } from './chromium.mjs';

const to = process.argv[2];
mkdirSync(to, { recursive: true });
const browser = await launch();
for (const file of readdirSync(process.env.PAGES).filter(f => f.endsWith('.html'))) {
  const page = await browser.newPage({ viewport: { width: 1100, height: 1000 } });
  await page.goto(pathToFileURL(process.env.PAGES + '/' + file).href);
  await page.screenshot({ path: `${to}/${file.replace('.html', '.png')}` });
}
await browser.close();
