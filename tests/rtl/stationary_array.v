// The grid of a weight- or input-stationary array, with the edges that golden vectors drive: packed vectors, item 0 in
// the lowest bits; `left` and `select` skewed by row, `top` by column, `shift` not skewed.
module stationary_array #(
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter MOVING_BITS = 8,
    parameter MOVING_SIGNED = 1,
    parameter STILL_BITS = 8,
    parameter STILL_SIGNED = 1,
    parameter PSUM_BITS = 24,
    parameter PSUM_SATURATE = 0,
    parameter LANES = 1,
    parameter DEPTH = 1,
    parameter BANKS = 1
) (
    input wire clk,
    input wire reset,
    input wire [ROWS*LANES*MOVING_BITS-1:0] left,
    input wire [ROWS-1:0] select,
    input wire [ROWS-1:0] shift,
    input wire load_bank,
    input wire [COLS*LANES*STILL_BITS-1:0] top,
    output wire [COLS*PSUM_BITS-1:0] bottom,
    output wire [ROWS*COLS-1:0] overflow
);
    // The wires that arrive at PE (r, c): from the left at [r * (COLS + 1) + c], from above at [r * COLS + c].
    wire [LANES*MOVING_BITS-1:0] moving [0:ROWS*(COLS+1)-1];
    wire selected [0:ROWS*(COLS+1)-1];
    wire [LANES*STILL_BITS-1:0] still [0:(ROWS+1)*COLS-1];
    wire signed [PSUM_BITS-1:0] sum [0:(ROWS+1)*COLS-1];
    // The bits that load a column hop right beside it.
    wire [ROWS-1:0] shifts [0:COLS];
    wire load_banks [0:COLS];
    assign shifts[0] = shift;
    assign load_banks[0] = load_bank;

    genvar r, c;
    generate
        for (r = 0; r < ROWS; r = r + 1) begin : g_left
            assign moving[r*(COLS+1)] = left[r*LANES*MOVING_BITS +: LANES*MOVING_BITS];
            assign selected[r*(COLS+1)] = select[r];
        end
        for (c = 0; c < COLS; c = c + 1) begin : g_edge
            assign still[c] = top[c*LANES*STILL_BITS +: LANES*STILL_BITS];
            assign sum[c] = {PSUM_BITS{1'b0}};
            assign bottom[c*PSUM_BITS +: PSUM_BITS] = sum[ROWS*COLS + c];
            delay #(.BITS(ROWS + 1)) hop (
                .clk(clk), .reset(reset), .in({load_banks[c], shifts[c]}), .out({load_banks[c+1], shifts[c+1]})
            );
        end
        for (r = 0; r < ROWS; r = r + 1) begin : g_row
            for (c = 0; c < COLS; c = c + 1) begin : g_col
                stationary_pe #(
                    .MOVING_BITS(MOVING_BITS), .MOVING_SIGNED(MOVING_SIGNED), .STILL_BITS(STILL_BITS),
                    .STILL_SIGNED(STILL_SIGNED), .PSUM_BITS(PSUM_BITS), .PSUM_SATURATE(PSUM_SATURATE),
                    .LANES(LANES), .DEPTH(DEPTH), .BANKS(BANKS)
                ) pe (
                    .clk(clk), .reset(reset),
                    .moving_in(moving[r*(COLS+1) + c]), .moving(moving[r*(COLS+1) + c + 1]),
                    .select_in(selected[r*(COLS+1) + c]), .select(selected[r*(COLS+1) + c + 1]),
                    .shift(shifts[c][r]), .load_bank(load_banks[c]),
                    .still_in(still[r*COLS + c]), .still_out(still[(r+1)*COLS + c]),
                    .sum_in(sum[r*COLS + c]), .sum(sum[(r+1)*COLS + c]), .overflow(overflow[r*COLS + c])
                );
            end
        end
    endgenerate
endmodule
