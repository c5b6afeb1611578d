import type {
  Conditioning,
  Engine,
  Frames,
  Generation,
  GenerationOptions,
  ModelInfo,
  Step,
} from '../../src/sessions/index.js';

const FPS = 16;
const STEPS = 4;

export const PAINTING_MODEL: ModelInfo = {
  name: 'painting',
  version: '1.0.0',
  title: 'Painting',
  description: 'A bar that moves over a colour that the prompt chooses.',
  license: 'Apache-2.0',
  width: 192,
  height: 112,
  fps: FPS,
  framesPerBlock: 3,
  denoisingSteps: STEPS,
  device: 'cpu',
  precision: 'fp32',
  storedPrecision: 'fp32',
  digest: 'painting',
  bytes: 1_000,
  state: 'LOADED',
  loras: [],
  longestSeconds: null,
  guide: { about: 'A bar, and rain.', examples: ['a bar that moves'] },
};
const TAUGHT = ['a', 'bar', 'that', 'moves', 'in', 'the', 'rain'];

/** An engine for tests that look at pictures: what is on screen follows from the prompt and the time, at little cost. */
export class PaintingEngine implements Engine {
  constructor(
    private readonly infos: ModelInfo[] = [PAINTING_MODEL],
    /** Six of them are a block of 0.75 s. */
    private readonly stepMilliseconds = 30,
  ) {}

  models(): ModelInfo[] {
    return this.infos;
  }

  async refresh(): Promise<void> {
    // There are no others.
  }

  unknownWords(_model: string, _options: object, prompt: string): string[] {
    return prompt.split(' ').filter((word) => !TAUGHT.includes(word));
  }

  check(): void {
    // Any size can be painted.
  }

  async preload(): Promise<void> {
    // There is nothing to load.
  }

  async open(_model: string, options: GenerationOptions): Promise<Generation> {
    return new Painting(options, 0, 0, this.stepMilliseconds);
  }

  async restore(
    _model: string,
    options: GenerationOptions,
    checkpoint: Uint8Array,
    conditioning: Conditioning,
  ): Promise<Generation> {
    return new Painting(
      options,
      Number(new TextDecoder().decode(checkpoint)),
      hueOf(conditioning),
      this.stepMilliseconds,
    );
  }
}

class Painting implements Generation {
  private phase = 0;

  constructor(
    private readonly options: GenerationOptions,
    public block: number,
    private hue: number,
    private readonly stepMilliseconds: number,
  ) {}

  async encodePrompt(): Promise<void> {
    // A hue is quickly found.
  }

  async setPrompt(conditioning: Conditioning): Promise<{ milliseconds: number }> {
    this.hue = hueOf(conditioning);
    return { milliseconds: await work(20) };
  }

  async step(): Promise<Step> {
    const { block } = this;
    const milliseconds = await work(this.stepMilliseconds);
    const phase = this.phase++;
    if (phase < STEPS) return { kind: 'denoise', block, step: phase, milliseconds };
    if (phase === STEPS) return { kind: 'frames', block, milliseconds, frames: this.paint() };
    this.phase = 0;
    this.block++;
    return { kind: 'context', block, milliseconds };
  }

  async abandonBlock(): Promise<void> {
    this.phase = 0;
  }

  async checkpoint(): Promise<Uint8Array> {
    return new TextEncoder().encode(String(this.block));
  }

  dispose(): void {
    // Nothing is held.
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private paint(): Frames {
    const { width, height } = this.options;
    const firstFrame = this.block === 0 ? 0 : 12 * this.block - 3;
    const count = this.block === 0 ? 9 : 12;
    const frames = Array.from({ length: count }, (_, index) => frame(width, height, firstFrame + index, this.hue));
    return { block: this.block, firstFrame, count, width, height, i420: Buffer.concat(frames) };
  }
}

/** One I420 picture: a bright bar, moving right, over a plain colour. */
function frame(width: number, height: number, index: number, hue: number): Uint8Array {
  const luma = new Uint8Array(width * height).fill(90);
  const bar = (index * 4) % width;
  for (let y = 0; y < height; y++) luma.fill(210, y * width + bar, y * width + Math.min(width, bar + 16));
  const chroma = (width / 2) * (height / 2);
  const u = new Uint8Array(chroma).fill(128 + 70 * Math.cos(hue));
  const v = new Uint8Array(chroma).fill(128 + 70 * Math.sin(hue));
  return Buffer.concat([luma, u, v]);
}

function hueOf({ prompt, blends = [] }: Conditioning): number {
  return blends.reduce((hue, { prompt: to, share }) => hue + (hueOfText(to) - hue) * share, hueOfText(prompt));
}

function hueOfText(prompt: string): number {
  let hash = 7;
  for (const letter of prompt) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) % 360;
  return (hash / 360) * 2 * Math.PI;
}

async function work(milliseconds: number): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  return milliseconds;
}
