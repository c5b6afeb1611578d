/** A page of another origin than the service, with the kit's one file for a script tag. */
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import type * as kit from '../../src/index.js';

const KIT = fileURLToPath(new URL('../../dist/longlive.global.js', import.meta.url));
export const PAGE = '<!doctype html><title>kit</title><video></video><script src="longlive.js"></script>';

declare global {
  /** What tests keep in the page. */
  interface Window {
    longlive: typeof kit;
    session: kit.Session;
    player: kit.Player;
    states: { status: string; at: number; seconds?: number; time: number }[];
    /** Milliseconds that the picture stood still though the player said that it plays. */
    frozen: number;
    problems: string[];
    token: string | undefined;
    /** How often the token was asked for. */
    asked: number;
    /** How often the browser had no room. */
    refused: number;
    /** Has the page believe that it is hidden, or visible again. */
    hide(hidden: boolean): void;
  }
}

export class PageServer {
  private constructor(private readonly server: Server) {}

  static async start(html = () => PAGE): Promise<PageServer> {
    const script = readFileSync(KIT);
    const server = createServer((request, response) => {
      const isScript = request.url?.endsWith('.js') === true;
      response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html; charset=utf-8');
      response.end(isScript ? script : html());
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new PageServer(server);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** What every page begins with: it says what went wrong, and takes video from so many seconds at most at a time. */
export function watchOver(quota: number | null): void {
  window.problems = [];
  addEventListener('error', (event) => window.problems.push(event.message));
  addEventListener('unhandledrejection', (event) => window.problems.push(String(event.reason)));
  window.hide = (hidden) => {
    Object.defineProperty(document, 'visibilityState', { value: hidden ? 'hidden' : 'visible', configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  };
  if (quota === null) return;
  window.refused = 0;
  const append = Reflect.get<SourceBuffer, 'appendBuffer'>(SourceBuffer.prototype, 'appendBuffer');
  SourceBuffer.prototype.appendBuffer = function (bytes) {
    let kept = 0;
    for (let i = 0; i < this.buffered.length; i++) kept += this.buffered.end(i) - this.buffered.start(i);
    if (kept > quota) {
      window.refused++;
      throw new DOMException('The SourceBuffer is full.', 'QuotaExceededError');
    }
    append.call(this, bytes);
  };
}

export interface PlayOptions {
  url: string;
  id?: string;
  /** Its successor is put into `window.token`. */
  token?: string;
  create?: kit.CreateOptions;
  player?: kit.PlayerOptions;
}

/** In the page: attaches a player to a session, new or existing, and notes its states. Gives the session's id. */
export async function attachPlayer({ url, id, token, create, player }: PlayOptions): Promise<string> {
  window.token = token;
  window.asked = 0;
  const live = window.longlive.createClient({ url, token: () => (window.asked++, window.token) });
  window.session = id === undefined ? await live.create(create ?? {}) : await live.session(id);
  const video = document.querySelector('video') as HTMLVideoElement;
  window.player = window.longlive.attach(window.session, video, player);
  window.states = [];
  const note = (state: kit.PlayerState): void =>
    void window.states.push({ ...state, at: performance.now(), time: video.currentTime });
  note(window.player.state);
  window.player.watch(note);
  window.frozen = 0;
  let last = { time: -1, at: performance.now() };
  setInterval(() => {
    const now = { time: video.currentTime, at: performance.now() };
    if (now.time !== last.time || window.player.state.status !== 'playing') last = now;
    window.frozen = Math.max(window.frozen, now.at - last.at);
  }, 50);
  return window.session.id;
}

export async function openPage(browser: Browser, url: string, quotaSeconds?: number): Promise<Page> {
  const page = await browser.newPage();
  await page.addInitScript(watchOver, quotaSeconds ?? null);
  await page.goto(url);
  return page;
}

export const play = (page: Page, options: PlayOptions): Promise<string> => page.evaluate(attachPlayer, options);
