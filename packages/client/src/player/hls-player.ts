/** Plays a session's playlist by the browser's own means, where it has no Media Source Extensions: on iPhones. */
import type { Session } from '../session.js';
import { DecodeError } from './append-queue.js';
import type { PlayerOptions, PlayerState, PlayerStats } from './player.js';
import { playableUntil, toRanges } from './ranges.js';
import { droppedFrames, VideoPlayer } from './video-player.js';

export const PLAYLIST_TYPE = 'application/vnd.apple.mpegurl';
/** The browser keeps some chunks between itself and the edge. */
const NEAR_SECONDS = 4;

export class HlsPlayer extends VideoPlayer {
  private stalls = 0;

  constructor(session: Session, video: HTMLVideoElement, { from, autoplay = true, ...options }: PlayerOptions) {
    super(video, options);
    this.on(['waiting'], () => this.stalls++);
    this.on(['play', 'playing', 'pause', 'waiting', 'ended', 'loadeddata'], () => this.tell());
    this.on(['error'], () => this.fail(new DecodeError()));
    video.src = session.facts.playlistUrl;
    if (from === 'START') video.currentTime = 0;
    if (typeof from === 'number') video.currentTime = from;
    if (autoplay) this.play();
  }

  get following(): boolean {
    return this.edgeSeconds - this.video.currentTime < NEAR_SECONDS;
  }

  get stats(): PlayerStats {
    const { video, stalls } = this;
    return {
      ...{ stalls, stalledSeconds: 0, droppedFrames: droppedFrames(video), bytes: 0, rate: video.playbackRate },
      latencySeconds: Math.max(0, this.edgeSeconds - video.currentTime),
      bufferedSeconds: playableUntil(toRanges(video.buffered), video.currentTime) - video.currentTime,
      jitterSeconds: 0,
      speed: 1,
    };
  }

  seek(seconds: number): void {
    this.video.currentTime = Math.max(0, seconds);
  }

  goLive(): void {
    this.seek(this.edgeSeconds);
    this.play();
  }

  protected override now(): PlayerState {
    const { ended, paused, readyState } = this.video;
    if (ended) return { status: 'ended' };
    if (readyState === 0) return { status: 'waiting' };
    if (paused) return { status: 'paused' };
    return readyState > 2 ? { status: 'playing' } : { status: 'buffering', seconds: 0 };
  }

  protected override leave(): void {
    this.video.removeAttribute('src');
    this.video.load();
  }

  private get edgeSeconds(): number {
    const { seekable } = this.video;
    return seekable.length > 0 ? seekable.end(seekable.length - 1) : 0;
  }
}
