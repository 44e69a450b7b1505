//! Draws the Mandelbrot set (abi bytes): rows of pixels, for `reduce: concat`.
//!
//! In: the rows to draw, as the text "lo hi". Out: their pixels, three bytes each. The shard that
//! has row 0 puts the header of a PPM file before them, so the whole is an image in that format.

const width = 600;
const height = 400;
const steps_max = 100;
const header = "P6\n600 400\n255\n";

var input: [64]u8 = undefined;
var output: [header.len + 3 * width * height]u8 = undefined;

/// Returns where the shard's input is to be put.
export fn alloc(size: usize) [*]u8 {
    if (size > input.len) @trap();
    return &input;
}

/// Returns the address of the result in the upper and its length in the lower 32 bits.
export fn map(text: [*]const u8, length: usize) u64 {
    var at: usize = 0;
    const lo = number(text[0..length], &at);
    const hi = number(text[0..length], &at);
    if (hi > height) @trap();
    var size: usize = 0;
    if (lo == 0) {
        @memcpy(output[0..header.len], header);
        size = header.len;
    }
    for (lo..hi) |row| {
        for (0..width) |column| {
            output[size..][0..3].* = colour(steps(column, row));
            size += 3;
        }
    }
    return @as(u64, @intFromPtr(&output)) << 32 | size;
}

/// Takes the next number off the text.
fn number(text: []const u8, at: *usize) usize {
    var value: usize = 0;
    while (text[at.*] == ' ') at.* += 1;
    while (at.* < text.len and text[at.*] >= '0' and text[at.*] <= '9') : (at.* += 1) {
        value = value * 10 + (text[at.*] - '0');
    }
    return value;
}

/// Returns after how many steps a pixel's point leaves the circle of radius 2, or the maximum.
fn steps(column: usize, row: usize) u8 {
    const cx = @as(f64, @floatFromInt(column)) * 0.006 - 2.55;
    const cy = @as(f64, @floatFromInt(row)) * 0.006 - 1.2;
    var x: f64 = 0;
    var y: f64 = 0;
    var step: u8 = 0;
    while (step < steps_max and x * x + y * y <= 4) : (step += 1) {
        const next = x * x - y * y + cx;
        y = 2 * x * y + cy;
        x = next;
    }
    return step;
}

/// Returns red, green, blue: dark blue far away, over white to gold; black inside the set.
fn colour(step: u8) [3]u8 {
    if (step == steps_max) return .{ 0, 0, 0 };
    const near: u16 = @min(@as(u16, step) * 12, 510);
    if (near <= 255) {
        const light: u8 = @intCast(near);
        return .{ light, light, 100 + light / 2 };
    }
    const gone: u8 = @intCast(near - 255);
    return .{ 255, 255 - gone / 3, 227 - gone / 5 * 4 };
}
