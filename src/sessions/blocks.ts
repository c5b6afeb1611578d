/** Where blocks lie in time: the first latent frame becomes one video frame, every later one becomes four. */

const TEMPORAL_STRIDE = 4;

export interface BlockGrid {
  framesPerBlock: number;
  fps: number;
}

/** Index of the first video frame of a block; also the number of frames before it. */
export function firstFrameOf(grid: BlockGrid, block: number): number {
  return block === 0 ? 0 : TEMPORAL_STRIDE * grid.framesPerBlock * block - (TEMPORAL_STRIDE - 1);
}

export function startSecondsOf(grid: BlockGrid, block: number): number {
  return firstFrameOf(grid, block) / grid.fps;
}

/** How long a block other than the first plays. */
export function blockSeconds(grid: BlockGrid): number {
  return (TEMPORAL_STRIDE * grid.framesPerBlock) / grid.fps;
}

/** The block that plays at a time. */
export function blockAt(grid: BlockGrid, seconds: number): number {
  const frame = Math.floor(seconds * grid.fps + 1e-6);
  return Math.floor((frame + TEMPORAL_STRIDE - 1) / (TEMPORAL_STRIDE * grid.framesPerBlock));
}

/** The first block that starts at or after a time. */
export function blockAtOrAfter(grid: BlockGrid, seconds: number): number {
  const frame = Math.ceil(seconds * grid.fps - 1e-6);
  if (frame <= 0) return 0;
  return Math.ceil((frame + TEMPORAL_STRIDE - 1) / (TEMPORAL_STRIDE * grid.framesPerBlock));
}
