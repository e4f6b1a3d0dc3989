// The grid of an output-stationary array, with the edges that golden vectors drive: packed vectors, item 0 in the lowest
// bits; `left`, `first` and `bank` skewed by row, `top` and `bias` by column, `drain` not skewed.
module os_array #(
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter WEIGHT_BITS = 8,
    parameter WEIGHT_SIGNED = 1,
    parameter ACT_BITS = 8,
    parameter ACT_SIGNED = 1,
    parameter ACC_BITS = 32,
    parameter ACC_SATURATE = 0,
    parameter LANES = 1,
    parameter DEPTH = 1,
    parameter BANKS = 1
) (
    input wire clk,
    input wire reset,
    input wire [ROWS*LANES*ACT_BITS-1:0] left,
    input wire [ROWS-1:0] first,
    input wire [ROWS-1:0] bank,
    input wire [COLS*LANES*WEIGHT_BITS-1:0] top,
    input wire [COLS*ACC_BITS-1:0] bias,
    input wire [COLS-1:0] bias_out_of_range,
    input wire [ROWS-1:0] drain,
    input wire drain_bank,
    output wire [COLS*ACC_BITS-1:0] bottom,
    output wire [ROWS*COLS-1:0] overflow,
    output wire [ROWS*COLS-1:0] bias_overflow
);
    // The wires that arrive at PE (r, c): from the left at [r * (COLS + 1) + c], from above at [r * COLS + c].
    wire [LANES*ACT_BITS-1:0] activation [0:ROWS*(COLS+1)-1];
    wire firsts [0:ROWS*(COLS+1)-1];
    wire banks [0:ROWS*(COLS+1)-1];
    wire [LANES*WEIGHT_BITS-1:0] weight [0:(ROWS+1)*COLS-1];
    wire signed [ACC_BITS-1:0] sum [0:(ROWS+1)*COLS-1];
    // The bits that drain a column hop right beside it.
    wire [ROWS-1:0] drains [0:COLS];
    wire drain_banks [0:COLS];
    assign drains[0] = drain;
    assign drain_banks[0] = drain_bank;

    genvar r, c;
    generate
        for (r = 0; r < ROWS; r = r + 1) begin : g_left
            assign activation[r*(COLS+1)] = left[r*LANES*ACT_BITS +: LANES*ACT_BITS];
            assign firsts[r*(COLS+1)] = first[r];
            assign banks[r*(COLS+1)] = bank[r];
        end
        for (c = 0; c < COLS; c = c + 1) begin : g_edge
            assign weight[c] = top[c*LANES*WEIGHT_BITS +: LANES*WEIGHT_BITS];
            assign sum[c] = {ACC_BITS{1'b0}};
            assign bottom[c*ACC_BITS +: ACC_BITS] = sum[ROWS*COLS + c];
            delay #(.BITS(ROWS + 1)) hop (
                .clk(clk), .reset(reset), .in({drain_banks[c], drains[c]}), .out({drain_banks[c+1], drains[c+1]})
            );
        end
        for (r = 0; r < ROWS; r = r + 1) begin : g_row
            for (c = 0; c < COLS; c = c + 1) begin : g_col
                os_pe #(
                    .WEIGHT_BITS(WEIGHT_BITS), .WEIGHT_SIGNED(WEIGHT_SIGNED), .ACT_BITS(ACT_BITS),
                    .ACT_SIGNED(ACT_SIGNED), .ACC_BITS(ACC_BITS), .ACC_SATURATE(ACC_SATURATE), .LANES(LANES),
                    .DEPTH(DEPTH), .BANKS(BANKS)
                ) pe (
                    .clk(clk), .reset(reset),
                    .activation_in(activation[r*(COLS+1) + c]), .activation(activation[r*(COLS+1) + c + 1]),
                    .first_in(firsts[r*(COLS+1) + c]), .first(firsts[r*(COLS+1) + c + 1]),
                    .bank_in(banks[r*(COLS+1) + c]), .bank(banks[r*(COLS+1) + c + 1]),
                    .weight_in(weight[r*COLS + c]), .weight(weight[(r+1)*COLS + c]),
                    .bias(bias[c*ACC_BITS +: ACC_BITS]), .bias_out_of_range(bias_out_of_range[c]),
                    .drain(drains[c][r]), .drain_bank(drain_banks[c]),
                    .sum_in(sum[r*COLS + c]), .sum_out(sum[(r+1)*COLS + c]),
                    .overflow(overflow[r*COLS + c]), .bias_overflow(bias_overflow[r*COLS + c])
                );
            end
        end
    endgenerate
endmodule
