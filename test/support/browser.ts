import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';

const executablePath = process.env['CHROMIUM_PATH'] ?? '/usr/bin/chromium';

export const hasBrowser = existsSync(executablePath);

export function openBrowser(): Promise<Browser> {
  const quiet = ['--disable-background-networking', '--disable-component-update', '--disable-sync'];
  return chromium.launch({ executablePath, args: ['--headless', '--no-sandbox', '--disable-gpu', ...quiet] });
}

/** What the player shows now: where it is, and a coarse look at its picture as eight by eight RGB values. */
export function look(page: Page): Promise<{ time: number; pixels: number[] }> {
  return page.evaluate(() => {
    const video = document.querySelector('video') as HTMLVideoElement;
    const canvas = new OffscreenCanvas(8, 8);
    const context = canvas.getContext('2d', { willReadFrequently: true }) as OffscreenCanvasRenderingContext2D;
    context.drawImage(video, 0, 0, 8, 8);
    return { time: video.currentTime, pixels: [...context.getImageData(0, 0, 8, 8).data] };
  });
}

/** Mean absolute difference of two looks, 0..255. */
export function difference(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, index) => sum + Math.abs(value - (b[index] ?? 0)), 0) / a.length;
}

export async function playsUntil(page: Page, seconds: number, timeout: number): Promise<void> {
  await page.waitForFunction((until) => (document.querySelector('video')?.currentTime ?? 0) >= until, seconds, {
    timeout,
  });
}
