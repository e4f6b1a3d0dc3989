// Accumulator memory under one column: adds each sum to what it holds, or to the bias where its sum begins. PLACES >= 2.
module accumulator #(
    parameter PSUM_BITS = 24,
    parameter BIAS_BITS = 32,
    parameter ACC_BITS = 32,
    parameter ACC_SATURATE = 0,
    parameter PLACES = 64
) (
    input wire clk,
    input wire valid,
    input wire first,
    input wire [$clog2(PLACES)-1:0] place,
    input wire signed [PSUM_BITS-1:0] sum,
    input wire signed [BIAS_BITS-1:0] bias,
    output wire signed [ACC_BITS-1:0] total,
    output wire overflow,
    output wire bias_overflow
);
    localparam WIDE_BITS = (BIAS_BITS > ACC_BITS ? BIAS_BITS : ACC_BITS) + 1;
    localparam EXACT_BITS = (PSUM_BITS > ACC_BITS ? PSUM_BITS : ACC_BITS) + 1;

    wire signed [ACC_BITS-1:0] start;
    wire start_overflow;
    wire signed [WIDE_BITS-1:0] wide = {{(WIDE_BITS-BIAS_BITS){bias[BIAS_BITS-1]}}, bias};
    obey #(.IN_BITS(WIDE_BITS), .BITS(ACC_BITS), .SATURATE(ACC_SATURATE)) load (
        .exact(wide), .held(start), .overflow(start_overflow)
    );

    reg signed [ACC_BITS-1:0] totals [0:PLACES-1];
    wire signed [ACC_BITS-1:0] base = first ? start : totals[place];
    wire signed [EXACT_BITS-1:0] exact = {{(EXACT_BITS-ACC_BITS){base[ACC_BITS-1]}}, base}
        + {{(EXACT_BITS-PSUM_BITS){sum[PSUM_BITS-1]}}, sum};
    wire exact_overflow;
    wire signed [ACC_BITS-1:0] held;
    obey #(.IN_BITS(EXACT_BITS), .BITS(ACC_BITS), .SATURATE(ACC_SATURATE)) add (
        .exact(exact), .held(held), .overflow(exact_overflow)
    );
    assign total = valid ? held : {ACC_BITS{1'b0}};
    assign overflow = valid && exact_overflow;
    assign bias_overflow = valid && first && start_overflow;

    always @(posedge clk)
        if (valid) totals[place] <= held;
endmodule
