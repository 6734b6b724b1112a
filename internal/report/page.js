'use strict';
for (const form of document.querySelectorAll('.filter')) {
  form.hidden = false;
  const table = document.getElementById(form.dataset.for);
  const count = form.querySelector('output');
  const apply = () => {
    const words = form.querySelector('input').value.toLowerCase().split(/\s+/).filter(Boolean);
    const select = form.querySelector('select');
    const group = select ? select.value : '';
    let shown = 0, all = 0;
    for (const row of table.querySelectorAll('[data-row]')) {
      const text = row.textContent.toLowerCase();
      const fits = words.every(w => text.includes(w)) && (group === '' || row.dataset.row === group);
      row.hidden = !fits;
      all++;
      if (fits) shown++;
    }
    count.textContent = shown + ' of ' + all + ' shown';
  };
  form.addEventListener('input', apply);
  form.addEventListener('submit', e => e.preventDefault());
}
