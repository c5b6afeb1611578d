/** The studio in a browser, for tests: what a person does there, and what they see. */
import type { Browser, BrowserContextOptions, Locator, Page } from 'playwright-core';
import { playsUntil } from './browser.js';

export const PATIENCE = 30_000;

export class Studio {
  private constructor(
    readonly page: Page,
    private readonly errors: string[],
  ) {}

  static async open(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Studio> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, ...options });
    const page = await context.newPage();
    const errors: string[] = [];
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('console', (message) => {
      if (/Content Security Policy/.test(message.text())) errors.push(message.text());
    });
    await page.goto(url);
    const studio = new Studio(page, errors);
    await studio.prompt.waitFor().catch(() => undefined);
    return studio;
  }

  get prompt(): Locator {
    return this.page.getByRole('textbox', { name: 'Prompt', exact: true });
  }

  get story(): Locator {
    return this.page.getByRole('list', { name: 'Prompts' });
  }

  get state(): Locator {
    return this.page.locator('.stage .state').first();
  }

  get problem(): Locator {
    return this.page.locator('#prompt-problem');
  }

  get id(): string {
    return new URL(this.page.url()).searchParams.get('session') ?? '';
  }

  button(name: string): Locator {
    return this.page.getByRole('button', { name, exact: true });
  }

  /** Types and presses Enter. */
  async send(prompt: string): Promise<void> {
    await this.prompt.fill(prompt);
    await this.prompt.press('Enter');
  }

  async start(prompt: string, untilSeconds = 1, patience = PATIENCE): Promise<void> {
    await this.send(prompt);
    await this.page.waitForURL(/session=/);
    await this.plays(untilSeconds, patience);
  }

  plays(untilSeconds: number, patience = PATIENCE): Promise<void> {
    return playsUntil(this.page, untilSeconds, patience);
  }

  time(): Promise<number> {
    return this.page.evaluate(() => document.querySelector('video')?.currentTime ?? 0);
  }

  /** What has the keyboard. */
  focus(): Promise<string> {
    return this.page.evaluate(
      () => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.tagName ?? '',
    );
  }

  /** Ends the session so that it takes nobody's place, and the page. Gives what went wrong in it. */
  async close(): Promise<string[]> {
    await this.page.context().setOffline(false);
    await this.button('Stop')
      .click({ timeout: 500 })
      .catch(() => undefined);
    await this.page.context().close();
    return this.errors;
  }
}
