// Output-stationary machine: controller, skewing delay lines, array.
//
// Operands come from memories outside that answer in the same cycle: at `stream_address` one activation for each row
// and one weight for each column, at `fold` one bias for each column.
module os #(
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter WEIGHT_BITS = 8,
    parameter WEIGHT_SIGNED = 1,
    parameter ACT_BITS = 8,
    parameter ACT_SIGNED = 1,
    parameter BIAS_BITS = 32,
    parameter ACC_BITS = 32,
    parameter ACC_SATURATE = 0,
    parameter LANES = 1,
    parameter DEPTH = 1,
    parameter BANKS = 1,
    parameter ADDRESS_BITS = 16
) (
    input wire clk,
    input wire reset,
    input wire run,
    output wire busy,
    input wire [ADDRESS_BITS-1:0] fold_count,
    input wire [ADDRESS_BITS-1:0] length,
    output wire [ADDRESS_BITS-1:0] stream_address,
    input wire [ROWS*LANES*ACT_BITS-1:0] activation_word,
    input wire [COLS*LANES*WEIGHT_BITS-1:0] weight_word,
    output wire [ADDRESS_BITS-1:0] fold,
    input wire [COLS*BIAS_BITS-1:0] bias_word,
    output wire [COLS*ACC_BITS-1:0] bottom,
    output wire [COLS-1:0] bottom_valid,
    output wire [ROWS*COLS-1:0] overflow,
    output wire [ROWS*COLS-1:0] bias_overflow
);
    localparam WIDE_BITS = (BIAS_BITS > ACC_BITS ? BIAS_BITS : ACC_BITS) + 1;

    wire stream, first, last, bank, out, out_last, drain_bank, ended, out_of_array;
    wire [ROWS-1:0] drain;
    os_control #(.ROWS(ROWS), .BANKS(BANKS), .ADDRESS_BITS(ADDRESS_BITS)) control (
        .clk(clk), .reset(reset), .run(run), .fold_count(fold_count), .length(length), .ended(ended),
        .left(out_of_array), .stream_address(stream_address), .fold(fold), .stream(stream), .first(first),
        .last(last), .bank(bank), .out(out), .out_last(out_last), .drain(drain), .drain_bank(drain_bank), .busy(busy)
    );
    delay #(.BITS(1), .CYCLES(ROWS + DEPTH - 1)) ends (.clk(clk), .reset(reset), .in(last), .out(ended));
    delay #(.BITS(1), .CYCLES(COLS - 1)) leaves (.clk(clk), .reset(reset), .in(out_last), .out(out_of_array));

    // Operands and their bits enter skewed; zeros where there is nothing.
    wire [ROWS*LANES*ACT_BITS-1:0] left;
    wire [COLS*LANES*WEIGHT_BITS-1:0] top;
    wire [ROWS-1:0] first_left, bank_left;
    skew #(.ITEMS(ROWS), .BITS(LANES*ACT_BITS)) rows_in (
        .clk(clk), .reset(reset), .in(activation_word & {ROWS*LANES*ACT_BITS{stream}}), .out(left)
    );
    skew #(.ITEMS(COLS), .BITS(LANES*WEIGHT_BITS)) columns_in (
        .clk(clk), .reset(reset), .in(weight_word & {COLS*LANES*WEIGHT_BITS{stream}}), .out(top)
    );
    skew #(.ITEMS(ROWS), .BITS(1)) firsts_in (.clk(clk), .reset(reset), .in({ROWS{first}}), .out(first_left));
    skew #(.ITEMS(ROWS), .BITS(1)) banks_in (.clk(clk), .reset(reset), .in({ROWS{bank}}), .out(bank_left));

    // Column c's wire takes a fold's bias when the fold's first product reaches its top PE, and keeps it.
    wire [COLS*ACC_BITS-1:0] bias;
    wire [COLS-1:0] bias_out_of_range;
    genvar c;
    generate
        for (c = 0; c < COLS; c = c + 1) begin : g_bias
            wire signed [BIAS_BITS-1:0] word = bias_word[c*BIAS_BITS +: BIAS_BITS];
            wire signed [WIDE_BITS-1:0] wide = {{(WIDE_BITS-BIAS_BITS){word[BIAS_BITS-1]}}, word};
            wire signed [ACC_BITS-1:0] held;
            wire overflowed;
            obey #(.IN_BITS(WIDE_BITS), .BITS(ACC_BITS), .SATURATE(ACC_SATURATE)) load (
                .exact(wide), .held(held), .overflow(overflowed)
            );
            wire taken;
            wire [ACC_BITS:0] coming;
            delay #(.BITS(ACC_BITS + 2), .CYCLES(c + DEPTH - 1)) wait_for_pe (
                .clk(clk), .reset(reset), .in({first, overflowed, held}), .out({taken, coming})
            );
            reg [ACC_BITS:0] kept;
            always @(posedge clk)
                if (reset) kept <= {(ACC_BITS+1){1'b0}};
                else if (taken) kept <= coming;
            assign {bias_out_of_range[c], bias[c*ACC_BITS +: ACC_BITS]} = taken ? coming : kept;
        end
    endgenerate

    os_array #(
        .ROWS(ROWS), .COLS(COLS), .WEIGHT_BITS(WEIGHT_BITS), .WEIGHT_SIGNED(WEIGHT_SIGNED), .ACT_BITS(ACT_BITS),
        .ACT_SIGNED(ACT_SIGNED), .ACC_BITS(ACC_BITS), .ACC_SATURATE(ACC_SATURATE), .LANES(LANES), .DEPTH(DEPTH),
        .BANKS(BANKS)
    ) array (
        .clk(clk), .reset(reset), .left(left), .first(first_left), .bank(bank_left), .top(top), .bias(bias),
        .bias_out_of_range(bias_out_of_range), .drain(drain), .drain_bank(drain_bank), .bottom(bottom),
        .overflow(overflow), .bias_overflow(bias_overflow)
    );
    skew #(.ITEMS(COLS), .BITS(1)) valid_out (.clk(clk), .reset(reset), .in({COLS{out}}), .out(bottom_valid));
endmodule
