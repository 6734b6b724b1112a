// Drives the pages of 'ekskms report' in Chromium: what 'go test' can't see of them.
// usage: node --test test.mjs, with the folder of the pages in PAGES.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { launch } from './chromium.mjs';

const pages = ['ours', 'record', 'changes', 'others', 'hostile', 'fleet'];
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const url = name => pathToFileURL(process.env.PAGES + '/' + name + '.html').href;

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

// open opens a page, and fails on all that it says or asks for.
async function open(t, name, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  context.setDefaultTimeout(180_000); // a busy machine is slow, and that is no fault of the page
  t.after(() => context.close());
  const page = await context.newPage();
  const wrong = [];
  page.on('console', m => wrong.push('console: ' + m.text()));
  page.on('pageerror', e => wrong.push('error: ' + e));
  page.on('dialog', d => { wrong.push('dialog: ' + d.message()); d.dismiss(); });
  page.on('request', r => { if (r.url() !== url(name)) wrong.push('request: ' + r.url()); });
  await page.goto(url(name));
  return { page, wrong };
}

for (const name of pages) {
  for (const width of [360, 1440]) {
    for (const colorScheme of ['light', 'dark']) {
      test(`${name}, ${width} pixels, ${colorScheme}`, async t => {
        // axe-core is put into the page, which its policy would not let.
        const { page, wrong } = await open(t, name, { viewport: { width, height: 900 }, colorScheme });
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, 'the page is wider than the window');
        assert.deepEqual(wrong, []);
        await page.evaluate(axe);
        // Of the fleet, which has as many elements as the others together, what they have not.
        const result = await page.evaluate(of => axe.run(of, { resultTypes: ['violations'] }), name === 'fleet' ? 'section[aria-labelledby=fleet]' : 'html');
        assert.deepEqual(result.violations.map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html).join(' | ')), []);
      });
    }
  }

  test(`${name}: links lead to what can be seen`, async t => {
    const { page, wrong } = await open(t, name);
    const links = await page.locator('a[href^="#"]').evaluateAll(all => [...new Set(all.map(a => a.getAttribute('href')))]);
    assert.ok(links.length > 4);
    for (const link of links.slice(0, 40)) {
      const at = page.locator('[id="' + link.slice(1) + '"]');
      assert.equal(await at.count(), 1, link);
      assert.equal(await at.isVisible(), true, link);
    }
    const proof = page.locator('.answers a').first();
    const to = (await proof.getAttribute('href')).slice(1);
    await proof.click();
    await page.waitForFunction(id => { const r = document.getElementById(id).getBoundingClientRect(); return r.top >= -1 && r.top < innerHeight; }, to);
    assert.deepEqual(wrong, []);
  });

  test(`${name}: printed`, async t => {
    const { page, wrong } = await open(t, name);
    await page.emulateMedia({ media: 'print' });
    assert.equal(await page.locator('nav').isVisible(), false);
    assert.equal(await page.locator('.filter').first().isVisible(), false);
    assert.equal(await page.locator('#not-judged').isVisible(), true);
    if (name !== 'fleet') assert.ok((await page.pdf()).length > 10000);
    assert.deepEqual(wrong, []);
  });
}

test('the matrix is filtered by words and by kind', async t => {
  const { page } = await open(t, 'ours');
  const form = page.locator('form[data-for="matrix-key-1"]');
  const rows = page.locator('#matrix-key-1 [data-row]');
  const shown = async () => (await rows.evaluateAll(all => all.filter(r => r.offsetParent !== null).map(r => r.textContent)));
  const all = (await shown()).length;
  await form.locator('input').fill('decrypt');
  const found = await shown();
  assert.ok(found.length > 0 && found.length < all && found.every(text => /decrypt/i.test(text)));
  assert.match(await form.locator('output').textContent(), new RegExp(`^${found.length} of ${all} shown$`));
  await form.locator('input').fill('');
  await form.locator('select').selectOption('read');
  assert.ok((await shown()).every(text => text.startsWith('read:')));
  await form.locator('select').selectOption('');
  assert.equal((await shown()).length, all);
  await form.locator('input').press('Enter'); // sends nothing
  assert.equal(page.url().split('#')[0], url('ours'));
});

test('clusters are filtered, and outliers are marked', async t => {
  const { page } = await open(t, 'fleet');
  await page.locator('form[data-for="fleet-table"] input').fill('cluster-042');
  const rows = page.locator('#fleet-table [data-row]:not([hidden])');
  assert.equal(await rows.count(), 1);
  assert.match(await rows.locator('.outlier').first().textContent(), /differs/);
});

test('a keyboard gets to the content, and to each table', async t => {
  const { page } = await open(t, 'ours');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  await page.keyboard.press('Enter');
  assert.match(page.url(), /#main$/);
  const tables = await page.locator('table').count();
  const reached = new Set();
  for (let i = 0; i < 200; i++) {
    await page.keyboard.press('Tab');
    const inside = await page.evaluate(() => { const t = document.activeElement.querySelector?.('table'); return t ? [...document.querySelectorAll('table')].indexOf(t) : -1; });
    if (inside >= 0 && await page.evaluate(() => document.activeElement.classList.contains('wide'))) reached.add(inside);
  }
  assert.equal(reached.size, tables);
});

test('without a script all of it is there', async t => {
  const { page } = await open(t, 'ours', { javaScriptEnabled: false });
  assert.equal(await page.locator('.filter').first().isVisible(), false);
  assert.ok(await page.locator('#matrix-key-1 tbody tr').count() > 5);
});

test('the policy lets nothing else run', async t => {
  const { page, wrong } = await open(t, 'ours');
  const answered = []; // what the policy refuses is asked of nobody
  page.on('response', r => answered.push(r.url()));
  page.on('requestfailed', r => assert.equal(r.failure().errorText, 'csp'));
  await page.evaluate(() => {
    const s = document.createElement('script');
    s.textContent = 'document.title = "ran"';
    document.body.append(s);
    const i = document.createElement('img');
    i.src = 'https://example.invalid/x.png';
    document.body.append(i);
  });
  assert.notEqual(await page.title(), 'ran');
  assert.ok(wrong.some(w => /Content Security Policy/.test(w)), 'the browser did not say that it refused');
  assert.deepEqual(answered, []);
});

test('how long a hundred clusters take, beside one', async t => {
  const drawn = async name => {
    const { page } = await open(t, name);
    return page.evaluate(() => new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now()), 0))));
  };
  await drawn('ours');
  const one = await drawn('ours');
  const fleet = await drawn('fleet');
  console.log(`# drawn after ${fleet.toFixed(0)} ms, and one cluster after ${one.toFixed(0)} ms: ${(fleet / one).toFixed(1)} times`);
});
