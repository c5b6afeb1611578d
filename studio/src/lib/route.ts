/** What the address says: the gallery, a session at a moment, or two of them side by side. */
import { secondsOf } from './moment';
import { Store } from './store';

export interface Route {
  readonly session?: string;
  readonly compare?: string;
  /** A moment, in seconds. */
  readonly at?: number;
}

export const route = new Store<{ now: Route }>({ now: read() });
addEventListener('popstate', () => route.update({ now: read() }));

export function go(to: Route, how: 'push' | 'replace' = 'push'): void {
  const query = new URLSearchParams();
  if (to.session) query.set('session', to.session);
  if (to.compare) query.set('compare', to.compare);
  if (to.at !== undefined) query.set('t', String(to.at));
  const text = query.toString();
  history[how === 'push' ? 'pushState' : 'replaceState'](null, '', text ? `/?${text}` : '/');
  route.update({ now: to });
}

export function linkTo(session: string, seconds: number): string {
  const query = new URLSearchParams({ session, t: String(Math.floor(seconds * 10) / 10) });
  return `${location.origin}/?${query.toString()}`;
}

function read(): Route {
  const query = new URLSearchParams(location.search);
  const [session, compare, t] = ['session', 'compare', 't'].map((name) => query.get(name) ?? undefined);
  const at = secondsOf(t);
  return { ...(session && { session }), ...(compare && { compare }), ...(at !== undefined && { at }) };
}
