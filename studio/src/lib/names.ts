/** What files are called: after what one sees in them. */
const MOST = 60;

export function fileName(title: string, id: string): string {
  const words = title
    .normalize('NFKD')
    .toLowerCase()
    .replace(/\p{Mn}/gu, '')
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .slice(0, MOST)
    .replace(/^-+|-+$/g, '');
  const end = id.replace(/[^A-Za-z0-9]/g, '').slice(-6);
  return [words || 'longlive', end].filter(Boolean).join('-');
}

/** The address under which the service gives a file that name, wherever it is kept. */
export function named(url: string, name: string): string {
  const full = new URL(url, location.href);
  full.searchParams.set('name', name);
  return full.href;
}
